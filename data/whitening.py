"""Whitening of images (section 6.3 says no more than "whitened"): contrast normalisation image by image, and ZCA over all pixels.

ZCA (Bell & Sejnowski 1997; with a regulariser as in Krizhevsky 2009) subtracts the mean of the training set and multiplies by the
symmetric W = V diag(1 / sqrt(lambda + regulariser)) V^T, where V diag(lambda) V^T is the covariance of the training set. It is
fitted on the training set alone. The covariance of the whitened training set has the same eigenvectors and the eigenvalues
lambda / (lambda + regulariser): without a regulariser it is the identity.
"""

import contextlib
import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from data.dataset import Dataset, Split
from data.download import landing
from data.rows import DenseRows

KINDS = ("zca", "centred", "none")
_ROWS = 10_000  # images at a time
_SMALLEST_CONTRAST = 1e-3  # of pixels from 0 to 1; flatter images are divided by this


def check_options(whitening: str, regulariser: float, contrast: bool) -> None:
    """Raises ValueError for options that `whitened` does not take."""
    if whitening not in KINDS:
        raise ValueError(f"data.whitening={whitening} is unknown: choose one of {', '.join(KINDS)}")
    if not (isinstance(regulariser, (int, float)) and regulariser >= 0):
        raise ValueError(f"data.regulariser={regulariser} should be a number from 0 up")
    if not isinstance(contrast, bool):
        raise ValueError(f"data.contrast={contrast} should be true or false")


def whitened(dataset: Dataset, cache: Path | None, whitening: str, regulariser: float, contrast: bool) -> Dataset:
    """The data set with its inputs whitened; float32, shape as before.

    Args:
        dataset: inputs are dense rows of pixels.
        cache: a folder for what has been fitted, under a name made from the training images and the options; None: fit it anew.
        whitening: `zca`, `centred` (the mean image subtracted) or `none`.
        regulariser: added to the eigenvalues of the covariance, in squared units of the pixels (which go from 0 to 1) or, with
            contrast normalisation, of images whose pixels have variance 1.
        contrast: whether first each image gets mean 0 and, over its pixels, variance 1.
    """
    if whitening == "none" and not contrast:
        return dataset
    train = _pixels(dataset.train, contrast)
    if whitening == "none":
        return _with_inputs(dataset, train, _pixels(dataset.test, contrast))
    mean = train.mean(0)
    if whitening == "centred":
        return _with_inputs(dataset, train - mean, _pixels(dataset.test, contrast) - mean)
    digest = hashlib.md5(dataset.train.inputs.values.numpy().tobytes()).hexdigest()
    matrix = _cached(cache and cache / f"zca-{regulariser}-{contrast}-{digest}.pt", train, mean, regulariser)
    return _with_inputs(dataset, _turned(train, mean, matrix), _turned(_pixels(dataset.test, contrast), mean, matrix))


def zca(covariance: Tensor, regulariser: float) -> Tensor:
    """The symmetric matrix [features, features] that whitens data of this covariance; float64.

    Directions without variance, and without a regulariser, are dropped instead of divided by 0.
    """
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp(min=0) + regulariser
    scales = torch.where(values > 1e-12 * values[-1], values.rsqrt(), 0.0)
    return vectors * scales @ vectors.T


def _pixels(split: Split, contrast: bool) -> Tensor:
    pixels = split.inputs.take(torch.arange(len(split)).unsqueeze(0))[0]
    if contrast:
        pixels -= pixels.mean(1, keepdim=True)
        pixels /= pixels.square().mean(1, keepdim=True).sqrt().clamp(min=_SMALLEST_CONTRAST)
    return pixels


def _cached(path: Path | None, train: Tensor, mean: Tensor, regulariser: float) -> Tensor:
    if path is not None and path.exists():
        with contextlib.suppress(RuntimeError, EOFError, pickle.UnpicklingError):  # a file that was damaged is written anew
            return torch.load(path, weights_only=True)
    covariance = torch.zeros(train.shape[1], train.shape[1], dtype=torch.float64)
    for part in train.split(_ROWS):
        centred = (part - mean).double()
        covariance.addmm_(centred.T, centred, alpha=1 / len(train))
    matrix = zca(covariance, regulariser).float()
    if path is not None:
        try:
            with landing(path) as part:
                torch.save(matrix, part)
        except (OSError, RuntimeError):  # a data root that is read-only or full: then it is fitted every time
            pass
    return matrix


def _turned(pixels: Tensor, mean: Tensor, matrix: Tensor) -> Tensor:
    turned = torch.empty_like(pixels)
    for part, out in zip(pixels.split(_ROWS), turned.split(_ROWS), strict=True):
        torch.mm(part - mean, matrix, out=out)
    return turned


def _with_inputs(dataset: Dataset, train: Tensor, test: Tensor) -> Dataset:
    splits = {name: Split(DenseRows(rows), getattr(dataset, name).targets) for name, rows in (("train", train), ("test", test))}
    return replace(dataset, **splits)
