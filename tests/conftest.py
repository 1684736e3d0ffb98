"""What tests share: small data sets, and which tests can run on this machine."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from data.rows import DenseRows, SparseRows
from data.types import Dataset, Split


def pytest_configure(config):
    torch.set_num_threads(1)  # the tests run in parallel, and their tensors are small
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a script: children would ignore Ctrl-C too
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    root = Path(os.environ.get("ADAM_DATA", "/nonexistent"))
    files = {"mnist": "MNIST/raw", "imdb": "aclImdb/train/labeledBow.feat", "cifar10": "cifar-10-batches-py/data_batch_1"}
    for item in items:
        for mark in item.iter_markers("realdata"):
            if missing := [name for name in mark.args if not (root / files[name]).exists()]:
                item.add_marker(pytest.mark.skip(reason=f"ADAM_DATA names no folder with {' and '.join(missing)}"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def device_error_ends_the_worker(request):
    """After a failed kernel every call of the device fails in this process: xdist goes on in another one."""
    yield
    if "gpu" in request.keywords and "PYTEST_XDIST_WORKER" in os.environ:
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            os._exit(1)


@pytest.fixture
def images() -> Dataset:
    """300 + 50 images of 12 pixels, 3 classes that the pixels tell apart, mostly."""
    rng = np.random.default_rng(0)
    splits = []
    for size in (300, 50):
        classes = rng.integers(0, 3, size)
        pixels = rng.integers(0, 120, (size, 12))
        pixels[np.arange(size), classes] += 120
        splits.append(Split(DenseRows(torch.tensor(pixels, dtype=torch.uint8), 1 / 255), torch.tensor(classes)))
    return Dataset("real", *splits, classes=3, checksums={})


@pytest.fixture
def words() -> Dataset:
    """300 + 50 sparse rows of 40 features, 2 classes; some rows are empty."""
    rng = np.random.default_rng(0)
    splits = []
    for size in (300, 50):
        values = rng.integers(1, 4, (size, 40)) * (rng.random((size, 40)) < 0.1)
        values[::17] = 0
        classes = (values[:, :20].sum(1) > values[:, 20:].sum(1)).astype(np.int64)
        splits.append(Split(SparseRows(scipy.sparse.csr_matrix(values)), torch.tensor(classes)))
    return Dataset("real", *splits, classes=2, checksums={})


@pytest.fixture
def command(monkeypatch, tmp_path, images):
    """Runs run.py in this process, on the small images unless told to load data; returns the CSV files of all runs so far."""
    import run as program

    def call(*overrides: str, dataset: Dataset | None = images) -> list[Path]:
        with monkeypatch.context() as patch:
            if dataset is not None:
                patch.setattr(program, "load", lambda **_: dataset)
            patch.setattr(sys, "argv", ["run.py", f"results={tmp_path}", "epochs=2", "device=cpu", *overrides])
            program.cli()
        return sorted(tmp_path.rglob("*.csv"))

    return call
