"""Embedded stand-ins for machines without the real data: same shapes, same types, made from scratch, the same every time.

They let every command, test and figure run offline. Nothing that is learned on them is compared with the paper.
"""

import numpy as np
import scipy.sparse
import torch
from sklearn.datasets import load_digits, load_sample_images

from data.dataset import Dataset, Split
from data.imdb import check_options
from data.rows import DenseRows, SparseRows


def digit_images(train: int = 60_000, test: int = 10_000) -> Dataset:
    """Images of MNIST's shape, grown from scikit-learn's 1,797 digits of 8 x 8 pixels.

    Each image is one of the small digits, enlarged to 24 x 24, moved by up to two pixels, with a little noise. Training and
    test images grow from different digits.
    """
    rng = np.random.default_rng(20150507)
    small, labels = load_digits(return_X_y=True)
    large = torch.nn.functional.interpolate(torch.from_numpy(small / 16).view(-1, 1, 8, 8), size=(24, 24), mode="bilinear")
    large = large[:, 0].numpy()
    origins = rng.permutation(len(large))
    splits = [_grow(large, labels, rng.choice(part, size), rng) for part, size in ((origins[:1500], train), (origins[1500:], test))]
    return Dataset("mnist", "standin", *splits, classes=10, checksums={})


def _grow(large: np.ndarray, labels: np.ndarray, origins: np.ndarray, rng: np.random.Generator) -> Split:
    images = np.zeros((len(origins), 28, 28), dtype=np.uint8)
    shifts = rng.integers(0, 5, size=(len(origins), 2))
    for dy, dx in np.ndindex(5, 5):  # all images with the same shift at once
        chosen = np.flatnonzero((shifts == (dy, dx)).all(axis=1))
        noisy = large[origins[chosen]] + rng.normal(0, 0.05, size=(len(chosen), 24, 24))
        images[chosen, dy : dy + 24, dx : dx + 24] = (255 * noisy).clip(0, 255)
    return Split(DenseRows(torch.from_numpy(images).flatten(1), scale=1 / 255), torch.from_numpy(labels[origins]))


def colour_images(train: int = 50_000, test: int = 10_000) -> Dataset:
    """Images of CIFAR-10's shape: a digit as in `digit_images`, in a colour of its own, over a piece of a photograph.

    The photographs are scikit-learn's two; training and test images show different halves of them, and different digits.
    """
    rng = np.random.default_rng(20150507)
    digits = digit_images(train, test)
    photographs = np.stack(load_sample_images().images).transpose(0, 3, 1, 2)  # 2 of 3 x 427 x 640
    halves = photographs[..., :320], photographs[..., 320:]
    splits = [_paint(split, half, rng) for split, half in zip((digits.train, digits.test), halves, strict=True)]
    return Dataset("cifar10", "standin", *splits, classes=10, checksums={})


def _paint(digits: Split, photographs: np.ndarray, rng: np.random.Generator) -> Split:
    count, (_, _, height, width) = len(digits), photographs.shape
    windows = np.lib.stride_tricks.sliding_window_view(photographs, (32, 32), axis=(2, 3))
    places = rng.integers(0, len(photographs), count), rng.integers(0, height - 31, count), rng.integers(0, width - 31, count)
    ground = windows[places[0], :, places[1], places[2]]
    ink = np.zeros((count, 1, 32, 32), dtype=np.float32)
    ink[:, 0, 2:30, 2:30] = digits.inputs.values.view(-1, 28, 28).numpy() / 255
    colours = rng.integers(0, 256, (count, 3, 1, 1)).astype(np.float32)
    images = (ground * (1 - ink) + colours * ink).astype(np.uint8)
    return Split(DenseRows(torch.from_numpy(images).flatten(1), scale=1 / 255), digits.targets)


def bag_of_words(words: int = 10_000, features: str = "binary", train: int = 25_000, test: int = 25_000) -> Dataset:
    """Reviews of IMDB's shape: words of Zipf frequencies, labelled by a sparse logistic teacher.

    About 125 different words per review; 500 of the words carry sentiment; half of the reviews are positive.
    """
    check_options(words, features)
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
    return Dataset("imdb", "standin", *splits, classes=2, checksums={})
