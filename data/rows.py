"""The rows of a data set, dense or sparse, from which minibatches are gathered on the device.

The leading axis of a minibatch is the streams: one per seed of a population, or a single one that all members share.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse
import torch
from torch import Tensor


class DenseRows:
    """A dense matrix that stores uint8, int16 or float32 and returns rows as float32.

    Args:
        values: uint8, int16 or float32, shape [examples, features].
        scale: factor applied to the returned values, 1/255 for pixels.
    """

    def __init__(self, values: Tensor, scale: float = 1.0):
        self.values, self.scale = values, scale

    @property
    def shape(self) -> tuple[int, int]:
        """(examples, features)."""
        examples, features = self.values.shape
        return examples, features

    def first(self, examples: int) -> DenseRows:
        """Returns the first rows."""
        return DenseRows(self.values[:examples], self.scale)

    def to(self, device: torch.device) -> DenseRows:
        """Returns the same rows on another device."""
        return DenseRows(self.values.to(device), self.scale)

    def take(self, index: Tensor) -> Tensor:
        """Returns the rows at `index` [streams, batch] as float32 [streams, batch, features]."""
        return next(self.split(index, index.shape[1]))

    def split(self, index: Tensor, batch: int) -> Iterator[Tensor]:
        """Yields the rows at `index` [streams, rows] as float32 [streams, batch, features], `batch` rows per stream at a time."""
        rows = self.values.index_select(0, index.flatten()).view(*index.shape, -1)
        for part in rows.split(batch, 1):  # converted one by one, so that each is still in the CPU's cache when it is used
            yield part.to(torch.float32).mul_(self.scale)


class SparseRows:
    """A sparse matrix of small non-negative integers that returns rows as float32.

    Args:
        matrix: shape [examples, features].
    """

    def __init__(self, matrix: scipy.sparse.csr_matrix):
        self.matrix = matrix.astype(np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        """(examples, features)."""
        return self.matrix.shape

    def first(self, examples: int) -> SparseRows:
        """Returns the first rows."""
        return SparseRows(self.matrix[:examples])

    def to(self, device: torch.device) -> SparseRows | DenseRows:
        """Returns the same rows on another device: dense on accelerators, where 1 or 2 bytes per feature are faster than sparse rows."""
        if device.type == "cpu":
            return self
        values = self.matrix.data.astype(np.uint8 if self.matrix.data.max(initial=0) < 256 else np.int16)
        dense = scipy.sparse.csr_matrix((values, self.matrix.indices, self.matrix.indptr), self.shape).toarray()
        return DenseRows(torch.from_numpy(dense)).to(device)

    def take(self, index: Tensor) -> SparseBatch:
        """Returns the rows at `index` [streams, batch]."""
        return SparseBatch(self.matrix[index.flatten().numpy()], *index.shape)


class SparseBatch:
    """A minibatch of sparse rows: a block-diagonal matrix with one block per stream.

    Args:
        matrix: the rows of all streams, concatenated, shape [streams * batch, features].
    """

    def __init__(self, matrix: scipy.sparse.csr_matrix, streams: int, batch: int):
        # Number of stored values in each stream.
        self.sizes: list[int] = np.diff(matrix.indptr[::batch]).tolist()
        self.shape = torch.Size((streams, batch, matrix.shape[1]))
        columns = matrix.indices
        if streams > 1:
            columns = columns + np.repeat(np.arange(streams, dtype=columns.dtype) * matrix.shape[1], self.sizes)
        self.blocks = scipy.sparse.csr_matrix((matrix.data, columns, matrix.indptr), (len(matrix.indptr) - 1, streams * matrix.shape[1]))

    def scaled(self, factors: Tensor) -> SparseBatch:
        """Multiplies the stored values, in order of streams and rows, by `factors` [sum(sizes)] in place; returns this batch."""
        self.blocks.data = self.blocks.data * factors.numpy()
        return self
