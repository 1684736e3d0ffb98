"""The types of a data set, `Split` and `Dataset`, and the validation of options."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from data.rows import DenseRows, SparseBatch, SparseRows

_GATHER = 2**22  # values per gather


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
        """The inputs, narrowed to dense rows.

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
        """Yields minibatches as `take` returns them; the last one may be smaller.

        Args:
            order: indices of the examples, shape [streams, examples].
            batch_size: examples per stream and minibatch.
        """
        if isinstance(self.inputs, SparseRows):
            yield from map(self.take, order.split(batch_size, 1))
            return
        # One gather serves many minibatches. Each is converted when it is yielded, so the model finds it in the CPU's cache.
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
        source: `real` or `standin`.
        train: the training examples, in a fixed order with balanced prefixes: among the first k examples, the count of each class is
            within 1.5 sqrt(k) of k times its share, as in a random order. `data.examples` and `shuffle=false` rely on this. The official
            orders of MNIST and CIFAR-10 are balanced (0.91 and 0.98 sqrt(k)). IMDB's is sorted by class and replaced by
            `data.imdb.balanced_order`.
        test: the test examples.
        classes: number of classes.
        checksums: md5 of every file read, by name.
    """

    source: str
    train: Split
    test: Split
    classes: int
    checksums: dict[str, str]

    def to(self, device: torch.device) -> Dataset:
        """Returns the same data on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def check_option(key: str, value: object, valid: bool, expected: str) -> None:
    """Raises ValueError unless `valid`.

    Args:
        key: the key inside `data`.
        value: its value.
        valid: whether the value is valid.
        expected: description of the valid values.
    """
    if not valid:
        text = value if isinstance(value, (str, float)) else json.dumps(value, default=str)  # true and null, as YAML spells them
        raise ValueError(f"data.{key}={text} is invalid: expected {expected}")
