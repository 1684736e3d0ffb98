"""The paper's data sets, as tensors on the device where training runs."""

from data.download import DataError
from data.loading import check_options, load
from data.types import Dataset, Split

__all__ = ["DataError", "Dataset", "Split", "check_options", "load"]
