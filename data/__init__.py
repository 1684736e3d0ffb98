"""The paper's data sets, as tensors that live where training does."""

from data.dataset import Dataset, Split, load
from data.download import DataError

__all__ = ["DataError", "Dataset", "Split", "load"]
