"""The benchmarks' contestants, on a few stand-in images: that they train, not how fast."""

import io
import math
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from experiments.records import PROJECT
from optim.sfo import Subspace
from scripts.benchmarks import contestants, sfo_memory
from scripts.benchmarks import training as bench
from scripts.benchmarks.contestants import Work

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def standins(monkeypatch):
    load = contestants.load
    monkeypatch.setattr(contestants, "load", lambda name, source="standin", **options: load(name, "standin", **options))


@pytest.mark.parametrize("model", ["logistic", "multilayer", "autoencoder", "convolutional"])
@pytest.mark.parametrize(
    "name", ["ours", "ours, bfloat16", "torch", "torch, foreach", "torch, compiled", "torch's tutorial", "products alone"]
)
def test_contestants_train_an_epoch(name, model, monkeypatch):
    if (name == "torch's tutorial" and model != "logistic") or (name == "products alone" and model == "logistic"):
        pytest.skip("not among the races")
    if name.startswith("torch,") and model == "convolutional":
        pytest.skip("slow, and tried with other models")
    steps = []
    step = torch.optim.Adam.step if name.startswith("torch") else contestants.optim.Adam.step
    owner = torch.optim.Adam if name.startswith("torch") else contestants.optim.Adam
    monkeypatch.setattr(owner, "step", lambda self, *closure: steps.append(1) or step(self, *closure))
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)  # takes half a minute
    epoch = contestants.CONTESTANTS[name](Work(model, 20, 8), CPU)
    steps.clear()
    epoch()
    if name != "products alone":
        assert len(steps) == 3  # the last minibatch has 4 examples


@pytest.mark.skipif(not (find_spec("jax") and find_spec("optax")), reason="JAX is not installed")
def test_jax_trains_an_epoch_of_everything():
    """In a process of its own: JAX makes every later fork of the one that imports it warn."""
    code = """
import torch
from scripts.benchmarks import contestants
load = contestants.load
contestants.load = lambda name, source="standin", **options: load(name, "standin", **options)
for model in ("logistic", "multilayer", "autoencoder", "convolutional"):
    contestants.CONTESTANTS["JAX"](contestants.Work(model, 20, 8), torch.device("cpu"))()
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT)


def test_a_population_trains_in_as_many_steps_as_one_member(monkeypatch):
    steps, step = [], contestants.optim.Adam.step
    epoch = contestants.our_epoch(Work("autoencoder", 64, 32, members=3), CPU)
    monkeypatch.setattr(contestants.optim.Adam, "step", lambda self: steps.append(1) or step(self))
    epoch()
    assert len(steps) == 2


def test_a_contestant_answers_each_line_with_seconds(monkeypatch, capsys):
    monkeypatch.setitem(contestants.WORKS, "autoencoder", Work("autoencoder", 64, 32))
    monkeypatch.setattr(contestants.sys, "argv", ["contestants.py", "torch", "autoencoder"])
    monkeypatch.setattr(contestants.sys, "stdin", io.StringIO("go\ngo\n"))
    contestants.main()
    ready, *seconds = capsys.readouterr().out.splitlines()
    assert ready == "ready"
    assert len(seconds) == 2
    assert all(0 < float(value) < math.inf for value in seconds)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_rows_are_medians_of_contestants_that_take_turns(monkeypatch, capsys, device):
    turns = []

    class Fake:
        def __init__(self, name, work, cores, device):
            self.name, self.seconds = name, iter({"ours": [1.0, 9.0, 2.0], "JAX": [3.0, 4.0, 50.0], "torch": []}[name])

        def wait(self):
            if self.name == "torch":
                raise RuntimeError("no CUDA")

        def epoch(self):
            turns.append(self.name)
            return next(self.seconds)

        def stop(self):
            turns.append("stopped")

    monkeypatch.setattr(bench, "Contestant", Fake)
    rows = list(bench.race(["ours", "torch", "JAX"], "autoencoder", 1, 3, device))
    assert turns == ["ours", "JAX"] * 3 + ["stopped"] * 3
    assert capsys.readouterr().err == "autoencoder: torch is left out: no CUDA\n"
    assert [(row["contestant"], row["seconds"]) for row in rows] == [("ours", 2.0), ("JAX", 4.0)]


def test_memory_is_measured_from_before_sfo_until_its_subspace_was_compacted(monkeypatch):
    events, compact = [], Subspace.compact
    monkeypatch.setattr(Subspace, "compact", lambda self, kept: events.append("compacted") or compact(self, kept))
    monkeypatch.setattr(sfo_memory, "_in_use", lambda _, at_most=False: events.append(at_most) or (5000 if at_most else 1000))
    assert sfo_memory.peak_growth(3, "cpu", hidden=4) == (784 * 4 + 4 + 4 * 4 + 4 + 4 * 10 + 10, 4000)
    assert events == [False, "compacted", True]


def test_memory_in_use_grows_with_a_tensor():
    code = """
import torch
from scripts.benchmarks.sfo_memory import _in_use
before = _in_use("cpu")
held = torch.ones(2**24)  # 64 MiB
assert _in_use("cpu") - before > held.nbytes / 2
assert _in_use("cpu", at_most=True) >= before + held.nbytes / 2
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT)  # a fresh process: in this one memory may have been freed
