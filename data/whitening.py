"""Whitening of images: contrast normalisation of each image, then ZCA over all pixels. Section 6.3 only says "whitened".

ZCA (Bell & Sejnowski 1997; with a regulariser as in Krizhevsky 2009) subtracts the mean of the training set and multiplies by the
symmetric matrix W = V diag(1 / sqrt(lambda + regulariser)) V^T, where V diag(lambda) V^T is the covariance of the training set. The
whitened training set has a covariance with the same eigenvectors and the eigenvalues lambda / (lambda + regulariser): without a
regulariser, the identity. Test images get the same mean and matrix.
"""

import contextlib
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from data.files import atomic_write
from data.rows import DenseRows
from data.tensor_files import load_tensors, save_tensors
from data.types import Dataset, Split, check_option

KINDS = ("zca", "centred", "none")
_ROWS = 10_000  # images per product, which bounds the memory of their float64 copy
_SMALLEST_CONTRAST = 1e-3  # lower bound of the divisor, a standard deviation of pixels in [0, 1]


@dataclass(frozen=True)
class Whitening:
    """Whitens the images of a data set, on their device.

    Attributes:
        whitening: `zca`, `centred` (the mean image subtracted) or `none`.
        regulariser: added to the eigenvalues of the covariance of pixels, which are in [0, 1], or have variance 1 with `contrast`.
        contrast: whether each image is first scaled to mean 0 and variance 1 over its pixels.

    Raises:
        ValueError: an invalid option.
    """

    whitening: str = "zca"
    regulariser: float = 0.1
    contrast: bool = False

    def __post_init__(self):
        check_option("whitening", self.whitening, self.whitening in KINDS, f"one of {', '.join(KINDS)}")
        # type() instead of isinstance(): True is an int.
        number = type(self.regulariser) in (int, float) and 0 <= self.regulariser < math.inf
        check_option("regulariser", self.regulariser, number, "a finite number, at least 0")
        check_option("contrast", self.contrast, isinstance(self.contrast, bool), "true or false")

    def __call__(self, dataset: Dataset, cache: Path | None = None) -> Dataset:
        """Returns the data set with whitened inputs: float32, same shape and device.

        Args:
            dataset: a data set whose inputs are dense rows of pixels.
            cache: folder of fitted matrices, keyed by options, images and torch's version. None: no cache.
        """
        if self.whitening == "none" and not self.contrast:
            return dataset
        train, test = self._pixels(dataset.train), self._pixels(dataset.test)
        if self.whitening != "none":
            mean = train.mean(0)
            train, test = train - mean, test - mean
        if self.whitening == "zca":
            images = hashlib.md5(dataset.train.dense.values.cpu().numpy().tobytes()).hexdigest()
            with _full_precision():
                matrix = self._cached(cache, images, train)
                train, test = train @ matrix, test @ matrix
        return replace(dataset, train=Split(DenseRows(train), dataset.train.targets), test=Split(DenseRows(test), dataset.test.targets))

    def _pixels(self, split: Split) -> Tensor:
        pixels = split.dense.take(torch.arange(len(split), device=split.targets.device).unsqueeze(0))[0]
        if self.contrast:
            pixels -= pixels.mean(1, keepdim=True)
            pixels /= pixels.square().mean(1, keepdim=True).sqrt().clamp(min=_SMALLEST_CONTRAST)
        return pixels

    def _cached(self, folder: Path | None, images: str, centred: Tensor) -> Tensor:
        key, path = f"{self} {images} torch {torch.__version__}", folder and folder / f"zca-{self.regulariser}-{self.contrast}-{images}.pt"
        with contextlib.suppress(OSError):  # absent, unreadable or damaged
            if path and _is_valid(saved := load_tensors(path, centred.device), key, centred.shape[1]):
                return saved["matrix"]
        covariance = torch.zeros(centred.shape[1], centred.shape[1], dtype=torch.float64, device=centred.device)
        for part in centred.split(_ROWS):
            covariance.addmm_(part.double().T, part.double(), alpha=1 / len(centred))
        matrix = zca(covariance, self.regulariser).float()
        if path:
            with contextlib.suppress(OSError), atomic_write(path) as part:  # read-only or full: every run fits the matrix
                save_tensors({"key": key, "matrix": matrix}, part)
        return matrix


def _is_valid(saved: object, key: str, features: int) -> bool:
    """Returns whether a cached file holds the matrix for this key."""
    matrix = saved.get("matrix") if isinstance(saved, dict) and saved.get("key") == key else None
    return isinstance(matrix, Tensor) and matrix.shape == (features, features) and matrix.dtype == torch.float32


def zca(covariance: Tensor, regulariser: float) -> Tensor:
    """Returns the symmetric matrix [features, features], float64, that whitens data of this covariance.

    Without a regulariser, directions without variance map to 0 instead of being divided by 0.
    """
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp(min=0) + regulariser
    scales = torch.where(values > 1e-12 * values[-1], values.rsqrt(), 0.0)
    return vectors * scales @ vectors.T


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Computes float32 products in full precision whatever `precision` is, because rounding would distort directions of low variance."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
