"""What every data set looks like to the rest of the project, and the one way to load it."""

from __future__ import annotations

import inspect
import os
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.download import DataUnavailable
from data.rows import DenseRows, SparseBatch, SparseRows

SOURCES = ("auto", "real", "standin")
_GATHER = 2**20  # values that fit into a processor's cache


@dataclass(frozen=True)
class Split:
    """Examples and their classes.

    Attributes:
        inputs: shape [examples, features].
        targets: int64, shape [examples], each in [0, classes).
    """

    inputs: DenseRows | SparseRows
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, index: Tensor) -> tuple[Tensor | SparseBatch, Tensor]:
        """Returns inputs [streams, batch, features] and classes [streams, batch] of the examples at `index` [streams, batch]."""
        return self.inputs.take(index), self.targets[index]

    def minibatches(self, order: Tensor, batch_size: int) -> Iterator[tuple[Tensor | SparseBatch, Tensor]]:
        """Yields inputs and classes as `take` returns them, `batch_size` examples at a time; the last minibatch may be shorter.

        Args:
            order: of the examples, shape [streams, examples].
            batch_size: examples of a stream.
        """
        # Dense rows are gathered for several minibatches at once, which takes half of the time.
        at_once = max(1, _GATHER // (order.shape[0] * batch_size * self.inputs.shape[1])) if isinstance(self.inputs, DenseRows) else 1
        for block in order.split(batch_size * at_once, 1):
            inputs, targets = self.take(block)
            yield from zip(inputs.split(batch_size, 1), targets.split(batch_size, 1), strict=True) if at_once > 1 else [(inputs, targets)]

    def first(self, examples: int) -> Split:
        """The first examples alone."""
        return Split(self.inputs.first(examples), self.targets[:examples])

    def at(self, order: np.ndarray) -> Split:
        """Returns the examples at these indices, in their order."""
        return Split(self.inputs.at(order), self.targets[torch.from_numpy(order)])

    def to(self, device: torch.device) -> Split:
        """The same examples on another device."""
        return Split(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Dataset:
    """A data set with its provenance.

    Attributes:
        name: `mnist`, `imdb` or `cifar10`.
        source: `real` or `standin`.
        train: the training examples, in a fixed order whose prefixes are balanced: among the first k, the count of each class is
            within 1.5 sqrt(k) of k times its share, as in a random order. `data.examples` and `shuffle=false` rely on it. MNIST
            and CIFAR-10 have this property in their official order (0.91 and 0.98 sqrt(k)) and keep it. IMDB's file, sorted by
            class, is reordered (`data.imdb.balanced_order`).
        test: the test examples.
        classes: number of classes.
        checksums: md5 of every file that was read.
    """

    name: str
    source: str
    train: Split
    test: Split
    classes: int
    checksums: dict[str, str]

    def to(self, device: torch.device) -> Dataset:
        """The same data on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def data_root(root: str | None = None) -> Path:
    """Where data sets are kept: `root`, else the environment variable ADAM_DATA, else data/downloads in the project."""
    return Path(root or os.environ.get("ADAM_DATA") or Path(__file__).parent / "downloads").expanduser()


def load(
    name: str, source: str = "auto", root: str | None = None, examples: int | None = None, device: torch.device | None = None, **options
) -> Dataset:
    """Loads a data set, fetching it first where that is needed; what is done with the images is done on the device.

    Args:
        name: `mnist`, `imdb` or `cifar10`.
        source: `real` for the real data or an error, `standin` for the embedded stand-in, `auto` for the real data if they
            are there or can be fetched and otherwise, with a warning, the stand-in.
        root: the data root; see `data_root`.
        examples: use the first so many training examples alone; None: all.
        device: where the data are to be; None: the CPU.
        options: `words` and `features` of imdb; `whitening`, `regulariser` and `contrast` of cifar10, see `data.whitening`.

    Raises:
        DataError: the real data are asked for and cannot be had, or a file is corrupt.
        ValueError: unknown name or source.
    """
    from data import cifar10, imdb, mnist, standin  # they build on the types of this module
    from data.whitening import Whitening

    loaders = {
        "mnist": (mnist.load_mnist, standin.digit_images, None),
        "imdb": (imdb.load_imdb, standin.bag_of_words, None),
        "cifar10": (cifar10.load_cifar10, standin.colour_images, Whitening),
    }
    if name not in loaders:
        raise ValueError(f"data.name={name} is unknown: choose one of {', '.join(loaders)}")
    if source not in SOURCES:
        raise ValueError(f"data.source={source} is unknown: choose one of {', '.join(SOURCES)}")
    real, embedded, preparation = loaders[name]
    of_loaders = inspect.signature(embedded).parameters.keys() & inspect.signature(real).parameters.keys()
    of_preparation = inspect.signature(preparation).parameters.keys() if preparation else set()
    for key, value in options.items():
        if key not in of_loaders | of_preparation:
            known = sorted({"source", "root", "examples"} | of_loaders | of_preparation)
            raise ValueError(f"data.{key}={value} is unknown to {name}: it takes {', '.join(known)}")
    prepare = preparation and preparation(**{key: options.pop(key) for key in of_preparation & options.keys()})
    dataset = None
    if source != "standin":
        try:
            dataset = real(data_root(root), **options)
        except DataUnavailable as error:
            if source == "real":
                raise
            _warn(f"The {name} data are not in {data_root(root)} and cannot be downloaded.", str(error))
    dataset = (dataset or embedded(**options)).to(device or torch.device("cpu"))
    if prepare:
        dataset = prepare(dataset, data_root(root) / "whitening" if dataset.source == "real" else None)
    if examples is None:
        return dataset
    if not (isinstance(examples, int) and 0 < examples <= len(dataset.train)):
        raise ValueError(f"data.examples={examples} should be a whole number from 1 to {len(dataset.train)}, or null for all")
    return replace(dataset, train=dataset.train.first(examples))


def _warn(*sentences: str) -> None:
    sentences = (*sentences, "Using the embedded STAND-IN instead: its results say nothing about the paper.")
    lines = [line for sentence in sentences for line in textwrap.wrap(sentence, 100)]
    edge = f"+{'-' * 102}+"
    print(edge, *(f"| {line:<100} |" for line in lines), edge, sep="\n", file=sys.stderr)
