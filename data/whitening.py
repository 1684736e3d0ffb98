"""Whitening of images (section 6.3 says no more than "whitened"): contrast normalisation image by image, and ZCA over all pixels.

ZCA (Bell & Sejnowski 1997; with a regulariser as in Krizhevsky 2009) subtracts the mean of the training set and multiplies by the
symmetric W = V diag(1 / sqrt(lambda + regulariser)) V^T, where V diag(lambda) V^T is the covariance of the training set. It is
fitted on the training set alone. The covariance of the whitened training set has the same eigenvectors and the eigenvalues
lambda / (lambda + regulariser): without a regulariser it is the identity.
"""

import contextlib
import hashlib
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from data.dataset import Dataset, Split
from data.download import landing
from data.rows import DenseRows

KINDS = ("zca", "centred", "none")
_ROWS = 10_000  # images at a time
_SMALLEST_CONTRAST = 1e-3  # of pixels from 0 to 1; flatter images are divided by this


@dataclass(frozen=True)
class Whitening:
    """What is done with images before they are trained on, wherever they are.

    Attributes:
        whitening: `zca`, `centred` (the mean image subtracted) or `none`.
        regulariser: added to the eigenvalues of the covariance, in squared units of the pixels (which go from 0 to 1) or, with
            contrast normalisation, of images whose pixels have variance 1.
        contrast: whether first each image gets mean 0 and, over its pixels, variance 1.

    Raises:
        ValueError: one that is none of these.
    """

    whitening: str = "zca"
    regulariser: float = 0.1
    contrast: bool = False

    def __post_init__(self):
        if self.whitening not in KINDS:
            raise ValueError(f"data.whitening={self.whitening} is unknown: choose one of {', '.join(KINDS)}")
        if not (isinstance(self.regulariser, (int, float)) and self.regulariser >= 0):
            raise ValueError(f"data.regulariser={self.regulariser} should be a number from 0 up")
        if not isinstance(self.contrast, bool):
            raise ValueError(f"data.contrast={self.contrast} should be true or false")

    def __call__(self, dataset: Dataset, cache: Path | None = None) -> Dataset:
        """The data set with its inputs whitened: float32, shape and device as before.

        Args:
            dataset: inputs are dense rows of pixels.
            cache: a folder for what has been fitted, under a name made from the training images and the options; None: fit it anew.
        """
        if self.whitening == "none" and not self.contrast:
            return dataset
        train, test = self._pixels(dataset.train), self._pixels(dataset.test)
        if self.whitening != "none":
            mean = train.mean(0)
            train, test = train - mean, test - mean
        if self.whitening == "zca":
            images = hashlib.md5(dataset.train.inputs.values.cpu().numpy().tobytes()).hexdigest()
            with _full_precision():
                matrix = self._cached(cache and cache / f"zca-{self.regulariser}-{self.contrast}-{images}.pt", train)
                train, test = train @ matrix, test @ matrix
        splits = {name: Split(DenseRows(rows), getattr(dataset, name).targets) for name, rows in (("train", train), ("test", test))}
        return replace(dataset, **splits)

    def _pixels(self, split: Split) -> Tensor:
        pixels = split.inputs.take(torch.arange(len(split), device=split.targets.device).unsqueeze(0))[0]
        if self.contrast:
            pixels -= pixels.mean(1, keepdim=True)
            pixels /= pixels.square().mean(1, keepdim=True).sqrt().clamp(min=_SMALLEST_CONTRAST)
        return pixels

    def _cached(self, path: Path | None, centred: Tensor) -> Tensor:
        if path is not None and path.exists():
            with contextlib.suppress(RuntimeError, EOFError, pickle.UnpicklingError):  # a file that was damaged is written anew
                return torch.load(path, map_location=centred.device, weights_only=True)
        covariance = torch.zeros(centred.shape[1], centred.shape[1], dtype=torch.float64, device=centred.device)
        for part in centred.split(_ROWS):
            covariance.addmm_(part.double().T, part.double(), alpha=1 / len(centred))
        matrix = zca(covariance, self.regulariser).float()
        if path is not None:
            try:
                with landing(path) as part:
                    torch.save(matrix, part)
            except (OSError, RuntimeError):  # a data root that is read-only or full: then it is fitted every time
                pass
        return matrix


def zca(covariance: Tensor, regulariser: float) -> Tensor:
    """The symmetric matrix [features, features] that whitens data of this covariance; float64.

    Directions without variance, and without a regulariser, are dropped instead of divided by 0.
    """
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp(min=0) + regulariser
    scales = torch.where(values > 1e-12 * values[-1], values.rsqrt(), 0.0)
    return vectors * scales @ vectors.T


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """float32 is float32 inside, whatever `precision` says of training: directions of little variance are what rounding would spoil."""
    chosen = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(chosen)
