"""The number of threads: the fastest, or one when an epoch takes far longer than forecast; never more than there are."""

import subprocess
import sys

import pytest
import torch

from experiments.training import threads
from experiments.training.threads import Threads


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "AVAILABLE", 4)
    yield
    torch.set_num_threads(before)


def forecast(seconds: dict[int, float]):
    return lambda: seconds[torch.get_num_threads()]


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 1.0, 2: 0.6, 4: 0.4}, 4),
        ({1: 1.0, 2: 0.6, 4: 0.9}, 2),
        ({1: 1.0, 2: 4.0, 4: 9.0}, 1),
        ({1: 1.0, 2: 0.95, 4: 0.92}, 1),  # less than a tenth is not worth another thread
    ],
)
def test_auto_takes_the_fastest(seconds, best):
    chosen = Threads("auto", forecast(seconds))
    assert torch.get_num_threads() == best
    assert chosen.seconds == seconds[best]


def test_a_given_number_is_kept_and_limited_to_the_cores():
    chosen = Threads(100_000, lambda: 1.0)
    assert torch.get_num_threads() == 4
    chosen.review(1000.0)
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("faster", [True, False])
def test_after_an_epoch_far_slower_than_forecast_one_thread_is_tried(capsys, faster):
    chosen = Threads("auto", forecast({1: 1.0, 2: 0.6, 4: 0.4}))
    chosen.review(0.7)  # less than twice the forecast
    assert torch.get_num_threads() == 4
    chosen.review(15.0)
    assert torch.get_num_threads() == 1
    chosen.review(2.0 if faster else 16.0)
    chosen.review(18.0)  # with four threads less than a quarter slower than before
    assert torch.get_num_threads() == (1 if faster else 4)
    tried = "an epoch took 15 s, 0.4 s were forecast: threads=1 in the next epoch, 4 before\n"
    undone = "an epoch took 16 s, with 4 threads 15 s: threads=4 in the next epoch, 1 before\n"
    assert capsys.readouterr().out == tried + undone * (not faster)


def test_more_threads_are_tried_again_after_16_epochs_with_one_then_after_32():
    chosen = Threads("auto", forecast({1: 1.0, 2: 0.6, 4: 0.4}))
    numbers = []
    for epoch in range(60):
        numbers.append(torch.get_num_threads())
        seconds = {1: 1.2, 4: 15.0} if epoch <= 50 else {4: 0.4}  # then the other program ends
        chosen.review(seconds[numbers[-1]])
    # The first epoch with one thread is its trial.
    assert numbers == [4] + [1] * 17 + [4] + [1] * 32 + [4] * 9


@pytest.mark.parametrize(
    ("policy", "cores", "expected"),
    [
        (None, ["0", "1"], "PASSIVE 3000 False\n"),
        (None, ["0-1", "0-1"], "PASSIVE None False\n"),  # two hardware threads of a core
        ("ACTIVE", ["0", "1"], "ACTIVE None False\n"),
    ],
)
def test_threads_wait_passively_unless_the_user_says_otherwise(monkeypatch, policy, cores, expected):
    code = f"""
import os, pathlib, sys
os.sched_getaffinity = lambda process: {{0, 1}}
pathlib.Path.read_text = lambda path: "" if path.name == "cpuinfo" else {cores}[int(path.parts[-3].removeprefix("cpu"))]
import experiments.process
print(*map(os.environ.get, ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")), "torch" in sys.modules)
"""
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    if policy:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == expected


def test_products_are_the_same_to_the_bit_with_one_thread_and_with_two():
    """Of the shapes that differed with MKL's defaults on an Intel Xeon with AVX-512; the first also on an AMD EPYC (Zen 4)."""
    code = """
import experiments.process
import torch
torch.manual_seed(0)
for shapes in ((10, 784, 128), (1000, 784, 128), (500, 784, 100), (1000, 1000, 128)):
    a, b = torch.randn(1, *shapes[:2]), torch.randn(1, *shapes[1:])
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(a @ b)
    assert torch.equal(*results), shapes
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_threads_of_a_run_treat_subnormal_numbers_as_zero():
    code = """
import experiments.process
experiments.process.prepare_process()
import torch
torch.set_num_threads(2)
print((torch.full((2**20,), 1e-40) * 1).view(torch.int32).count_nonzero().item())  # the bits: comparisons flush, too
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "0\n"
