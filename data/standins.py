"""Embedded stand-ins for machines without the real data: same shapes and types, generated from a fixed seed.

With them, every command, test and figure runs offline. Their results are never compared with the paper.
"""

import numpy as np
import scipy.sparse
import torch
from sklearn.datasets import load_digits, load_sample_images

from data.rows import DenseRows, SparseRows
from data.types import Dataset, Split


def digit_images(train: int = 60_000, test: int = 10_000) -> Dataset:
    """Returns images of MNIST's shape, generated from scikit-learn's 1,797 digits of 8 x 8 pixels.

    Each image is a digit enlarged to 24 x 24 pixels and shifted by up to two pixels, with noise of standard deviation 0.05. Training and
    test images use different digits.
    """
    rng = np.random.default_rng(20150507)
    small, labels = load_digits(return_X_y=True)
    large = torch.nn.functional.interpolate(torch.from_numpy(small / 16).view(-1, 1, 8, 8), size=(24, 24), mode="bilinear")[:, 0].numpy()
    sources = rng.permutation(len(large))
    first, second = (
        _enlarge(large, labels, rng.choice(part, size), rng) for part, size in ((sources[:1500], train), (sources[1500:], test))
    )
    return Dataset("standin", first, second, classes=10, checksums={})


def _enlarge(large: np.ndarray, labels: np.ndarray, sources: np.ndarray, rng: np.random.Generator) -> Split:
    images = np.zeros((len(sources), 28, 28), dtype=np.uint8)
    shifts = rng.integers(0, 5, size=(len(sources), 2))
    for dy, dx in np.ndindex(5, 5):  # vectorised over the images with the same shift
        group = np.flatnonzero((shifts == (dy, dx)).all(axis=1))
        noisy = large[sources[group]] + rng.normal(0, 0.05, size=(len(group), 24, 24))
        images[group, dy : dy + 24, dx : dx + 24] = (255 * noisy).clip(0, 255)
    return Split(DenseRows(torch.from_numpy(images).flatten(1), scale=1 / 255), torch.from_numpy(labels[sources]))


def colour_images(train: int = 50_000, test: int = 10_000) -> Dataset:
    """Returns images of CIFAR-10's shape: a digit of `digit_images` in a random colour over a random crop of a photograph.

    The photographs are scikit-learn's two. Training and test images use different halves of them and different digits.
    """
    rng = np.random.default_rng(20150507)
    digits = digit_images(train, test)
    photographs = np.stack(load_sample_images().images).transpose(0, 3, 1, 2)  # [2, 3, 427, 640]
    halves = photographs[..., :320], photographs[..., 320:]
    first, second = (_paint(split, half, rng) for split, half in zip((digits.train, digits.test), halves, strict=True))
    return Dataset("standin", first, second, classes=10, checksums={})


def _paint(digits: Split, photographs: np.ndarray, rng: np.random.Generator) -> Split:
    count, (_, _, height, width) = len(digits), photographs.shape
    windows = np.lib.stride_tricks.sliding_window_view(photographs, (32, 32), axis=(2, 3))
    corners = rng.integers(0, len(photographs), count), rng.integers(0, height - 31, count), rng.integers(0, width - 31, count)
    background = windows[corners[0], :, corners[1], corners[2]]
    ink = np.zeros((count, 1, 32, 32), dtype=np.float32)
    ink[:, 0, 2:30, 2:30] = digits.dense.values.view(-1, 28, 28).numpy() / 255
    colours = rng.integers(0, 256, (count, 3, 1, 1)).astype(np.float32)
    images = (background * (1 - ink) + colours * ink).astype(np.uint8)
    return Split(DenseRows(torch.from_numpy(images).flatten(1), scale=1 / 255), digits.targets)


def bag_of_words(words: int = 10_000, features: str = "binary", train: int = 25_000, test: int = 25_000) -> Dataset:
    """Returns reviews of IMDB's shape: words with Zipf frequencies, labelled by a sparse logistic teacher.

    A review has about 125 distinct words, 500 words carry sentiment, and half of the reviews are positive. See `load_imdb` for the
    options.
    """
    rng = np.random.default_rng(20150507)
    frequencies = 1 / (np.arange(words) + 10)
    frequencies /= frequencies.sum()
    teacher = np.zeros(words)
    teacher[rng.choice(words, min(500, words), replace=False)] = rng.normal(0, 2, min(500, words))
    splits = []
    for reviews in (train, test):
        lengths = rng.lognormal(5.2, 0.6, reviews).astype(np.int64) + 10
        columns = rng.choice(words, size=lengths.sum(), p=frequencies)
        rows = np.repeat(np.arange(reviews), lengths)
        matrix = scipy.sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), (reviews, words))
        present = (matrix > 0).astype(np.float32)
        scores = present @ teacher
        positive = rng.random(reviews) < 1 / (1 + np.exp(np.median(scores) - scores))
        splits.append(Split(SparseRows(present if features == "binary" else matrix), torch.from_numpy(positive.astype(np.int64))))
    return Dataset("standin", splits[0], splits[1], classes=2, checksums={})
