"""The types of a data set: `Split`, `Dataset`, and the check of an option's value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from data.rows import DenseRows, SparseBatch, SparseRows

_GATHER = 2**22  # values at once


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

    @property
    def dense(self) -> DenseRows:
        """The inputs of a data set of images.

        Raises:
            TypeError: the inputs are sparse.
        """
        if not isinstance(self.inputs, DenseRows):
            raise TypeError("inputs are invalid: expected dense rows")
        return self.inputs

    def take(self, index: Tensor) -> tuple[Tensor | SparseBatch, Tensor]:
        """Returns inputs [streams, batch, features] and classes [streams, batch] of the examples at `index` [streams, batch]."""
        return self.inputs.take(index), self.targets[index]

    def minibatches(self, order: Tensor, batch_size: int) -> Iterator[tuple[Tensor | SparseBatch, Tensor]]:
        """Yields inputs and classes as `take` returns them, `batch_size` examples at a time; the last minibatch may be shorter.

        Args:
            order: indices of the examples, shape [streams, examples].
            batch_size: examples per stream.
        """
        if isinstance(self.inputs, SparseRows):
            yield from map(self.take, order.split(batch_size, 1))
            return
        # One gather for many minibatches; each is converted when its turn comes and then found in the cache by what works on it.
        at_once = max(1, _GATHER // (order.shape[0] * batch_size * self.inputs.shape[1]))
        for block in order.split(batch_size * at_once, 1):
            yield from zip(self.inputs.split(block, batch_size), self.targets[block].split(batch_size, 1), strict=True)

    def first(self, examples: int) -> Split:
        """Returns the first examples."""
        return Split(self.inputs.first(examples), self.targets[:examples])

    def to(self, device: torch.device) -> Split:
        """Returns the same examples on another device."""
        return Split(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Dataset:
    """A data set with its provenance.

    Attributes:
        name: `mnist`, `imdb` or `cifar10`.
        source: `real` or `standin`.
        train: the training examples, in a fixed order with balanced prefixes: among the first k examples, the count of each
            class is within 1.5 sqrt(k) of k times its share, as in a random order. `data.examples` and `shuffle=false` rely on
            it. MNIST and CIFAR-10 keep their official order, which is balanced (0.91 and 0.98 sqrt(k)). IMDB's file is sorted
            by class and therefore reordered (`data.imdb.balanced_order`).
        test: the test examples.
        classes: number of classes.
        checksums: the md5 of every file read.
    """

    name: str
    source: str
    train: Split
    test: Split
    classes: int
    checksums: dict[str, str]

    def to(self, device: torch.device) -> Dataset:
        """Returns the same data on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def check_option(key: str, value: object, valid: bool, expected: str) -> None:
    """Raises ValueError with one sentence unless `valid`.

    Args:
        key: the key inside `data`.
        value: the value at fault.
        valid: whether the value is right.
        expected: the values that are right.
    """
    if not valid:
        text = value if isinstance(value, (str, float)) else json.dumps(value, default=str)  # true and null, as YAML spells them
        raise ValueError(f"data.{key}={text} is invalid: expected {expected}")
