"""MNIST (LeCun, Cortes & Burges): 60,000 + 10,000 grey-scale images of 28 x 28 pixels, 10 classes."""

from pathlib import Path

from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

from data.download import provide
from data.rows import DenseRows
from data.types import Dataset, Split

# md5 of the unpacked files; torchvision only has those of the archives.
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def load_mnist(root: Path) -> Dataset:
    """Reads root/MNIST/raw, after unpacking or downloading missing files.

    Raises:
        DataUnavailable: files are missing and cannot be downloaded.
        DataError: a file is corrupt.
    """
    folder = root / "MNIST" / "raw"
    for archive, md5 in MNIST.resources:
        name = archive.removesuffix(".gz")
        provide({folder / name: MD5[name]}, folder / archive, [mirror + archive for mirror in MNIST.mirrors], md5)
    return Dataset("real", _split(folder, "train"), _split(folder, "t10k"), classes=10, checksums=MD5)


def _split(folder: Path, part: str) -> Split:
    # torchvision's class MNIST would prefer the unverified files that older versions of it left in the same root.
    pixels = read_image_file(folder / f"{part}-images-idx3-ubyte")
    return Split(DenseRows(pixels.flatten(1), scale=1 / 255), read_label_file(folder / f"{part}-labels-idx1-ubyte"))
