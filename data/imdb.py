"""IMDB reviews (Maas et al. 2011) as bags of words: 25,000 + 25,000 reviews, positive or negative.

The official file lists all positive training reviews before all negative ones. Here they alternate: see `balanced_order`.
"""

from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from sklearn.datasets import load_svmlight_file

from data.download import provide
from data.rows import SparseRows
from data.types import Dataset, Split, check_option

URLS = ("https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",)
ARCHIVE_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
MD5 = {
    "aclImdb/train/labeledBow.feat": "023d59ab06ce6a5a55744e8c65329c27",
    "aclImdb/test/labeledBow.feat": "a726f527d82febe45031a920dddddc61",
}
VOCABULARY = 89_527  # words in imdb.vocab; feature k is its word k, and words are ordered by frequency
FEATURES = ("binary", "counts")


def load_imdb(root: Path, words: int = 10_000, features: str = "binary") -> Dataset:
    """Reads root/aclImdb, after unpacking or downloading missing files.

    Args:
        root: the data root.
        words: the number of features, the most frequent words first.
        features: `binary` (1 if a word occurs) or `counts`.

    Raises:
        DataUnavailable: files are missing and cannot be downloaded.
        DataError: a file is corrupt.
    """
    provide({root / name: md5 for name, md5 in MD5.items()}, root / "aclImdb_v1.tar.gz", URLS, ARCHIVE_MD5)
    matrix, targets = _read(root / "aclImdb" / "train" / "labeledBow.feat", words, features)
    order = balanced_order(targets)
    train = Split(SparseRows(matrix[order]), torch.from_numpy(targets[order]))
    matrix, targets = _read(root / "aclImdb" / "test" / "labeledBow.feat", words, features)
    return Dataset("real", train, Split(SparseRows(matrix), torch.from_numpy(targets)), classes=2, checksums=MD5)


def balanced_order(targets: np.ndarray) -> np.ndarray:
    """Returns a fixed random order of the examples in which classes alternate in proportion to their sizes.

    Example j of a class of n has the sort key (j + 1/2) / n, so each prefix has every class's share to within about one example. The
    order within a class is random, because the file lists reviews of the same film together.

    Args:
        targets: classes, shape [examples].
    """
    shuffled = np.random.RandomState(2011).permutation(len(targets))  # RandomState is the same in every version of NumPy
    keys = np.empty(len(targets))
    for group in np.unique(targets):
        members = shuffled[targets[shuffled] == group]
        keys[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(keys, kind="stable")


def check_bag_of_words(words: int = 10_000, features: str = "binary") -> None:
    """Raises ValueError unless `words` is from 1 to VOCABULARY and `features` one of FEATURES."""
    check_option("features", features, features in FEATURES, f"one of {', '.join(FEATURES)}")
    # type() instead of isinstance(): True is an int.
    check_option("words", words, type(words) is int and 0 < words <= VOCABULARY, f"a whole number from 1 to {VOCABULARY}")


def _read(path: Path, words: int, features: str) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    matrix, ratings = load_svmlight_file(str(path), n_features=VOCABULARY, zero_based=True, dtype=np.float32)
    matrix = matrix[:, :words]
    if features == "binary":
        matrix.data[:] = 1
    return matrix, (ratings >= 7).astype(np.int64)
