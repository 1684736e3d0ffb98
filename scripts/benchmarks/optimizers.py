"""Measures how fast a step of the optimizers is, beside torch's and (where it is installed) optax's, in one run; writes the table as CSV.

The contestants take turns. In each turn one gets fresh parameters, gradients and state (where in memory these come to lie decides
much) and makes steps in a row; the medians over the rounds are printed, in microseconds per step. A step of Adam or AdaMax in
float32 reads four numbers per parameter (theta, g and two of state) and writes three: 28 bytes, whoever makes it, if it makes one
pass over memory. GB/s are these 28 bytes per parameter and step. `copy` is the machine's: as many bytes, half of them read and half
written by torch's own copy.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch

import optim
from experiments.provenance import processor
from experiments.records import PROJECT
from scripts.benchmarks.timing import medians, timed

SHAPES: dict[str, list[tuple[int, ...]]] = {
    "logistic regression": [(10, 784), (10,)],
    "200 tensors of 1,000": [(1000,)] * 200,
    "VAE": [(500, 784), (500,), (50, 500), (50,), (50, 500), (50,), (500, 50), (500,), (784, 500), (784,)],
    "MLP": [(1000, 784), (1000,), (1000, 1000), (1000,), (10, 1000), (10,)],
    "CNN": [(64, 3, 5, 5), (64,), (64, 64, 5, 5), (64,), (128, 64, 5, 5), (128,), (1000, 2048), (1000,), (10, 1000), (10,)],
    "20 million": [(20, 1000, 1000)],
}
BYTES = 28
# Seconds of a turn, so long that parameters which fit into the caches are found there.
TURN = 0.05

# In a fresh process: the seconds of the first step.
_FIRST_STEP = """
import time, torch, optim
theta = torch.ones(3, device="{device}", requires_grad=True)
theta.grad = torch.ones_like(theta)
optimizer = optim.Adam([theta], fused=True)
start = time.perf_counter()
optimizer.step()
print(time.perf_counter() - start)
"""


def machines(name: str) -> dict[str, Callable]:
    """Ours and torch's optimizers of that name, by the path they take."""
    ours, theirs = {"Adam": (optim.Adam, torch.optim.Adam), "AdaMax": (optim.AdaMax, torch.optim.Adamax)}[name]
    contestants: dict[str, Callable] = {
        "ours": partial(ours, fused=True),
        "ours, plain": partial(ours, fused=False, foreach=False),
        "torch loop": partial(theirs, foreach=False),
        "torch foreach": partial(theirs, foreach=True),
    }
    if name == "Adam":
        contestants["torch fused"] = partial(theirs, fused=True)
    return contestants


def turn(make: Callable[[], Callable], wait: Callable) -> float:
    """The seconds of a step, after a few others: of what a contestant makes anew."""
    step = make()
    step()
    return timed(step, max(1, round(TURN / timed(step, wait=wait))), wait)


def copy(size: int, device: torch.device) -> Callable[[], object]:
    """A copy that reads and writes as many bytes as a step."""
    left, right = (torch.ones(size * BYTES // 8, device=device) for _ in range(2))
    return partial(left.copy_, right)


def torch_step(make: Callable, shapes: list[tuple[int, ...]], device: torch.device) -> Callable[[], object]:
    """A step of ours or torch's, with random parameters and gradients."""
    thetas = [torch.randn(shape, device=device, requires_grad=True) for shape in shapes]
    for theta in thetas:
        theta.grad = torch.randn_like(theta)
    return make(thetas).step


def optax_is_there(device: torch.device) -> bool:
    """Whether optax is installed, for this device."""
    try:
        import jax
        import optax  # noqa: F401
    except ImportError:
        return False
    return (jax.default_backend() == "cpu") == (device.type == "cpu")


def optax_step(name: str, shapes: list[tuple[int, ...]]) -> Callable[[], object]:
    """A step of optax, compiled by jax with its buffers donated."""
    import jax
    import optax

    rule = {"Adam": optax.adam, "AdaMax": optax.adamax}[name](1e-3)
    thetas = [jax.random.normal(jax.random.key(k), shape) for k, shape in enumerate(shapes)]
    gradients = [jax.random.normal(jax.random.key(-k), shape) for k, shape in enumerate(shapes)]
    held = [thetas, rule.init(thetas)]

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(thetas, state):
        changes, state = rule.update(gradients, state)
        return optax.apply_updates(thetas, changes), state

    def step():
        held[:] = update(*held)
        jax.block_until_ready(held)

    return step


def first_steps(device: torch.device) -> tuple[float, float]:
    """Seconds of the first step of a fresh process: when it compiles, and when an earlier one has."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-c", _FIRST_STEP.format(device=device)]
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
    compiled, cached = (float(run.stdout) for run in runs)
    return compiled, cached


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=PROJECT / "results" / "bench_optim.csv")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{device.type}, {where}, torch {torch.__version__}, medians of {arguments.rounds}")
    print("first step: {:.2f} s with compilation, {:.4f} s from the cache".format(*first_steps(device)))
    rows, machine = [], where if device.type == "cuda" else processor()
    for name in ("Adam", "AdaMax"):
        for task, shapes in SHAPES.items():
            size = sum(map(math.prod, shapes))
            makes = {label: partial(torch_step, make, shapes, device) for label, make in machines(name).items()}
            if optax_is_there(device):
                makes["optax"] = partial(optax_step, name, shapes)
            makes["copy"] = partial(copy, size, device)
            seconds = medians(*(partial(turn, make, wait) for make in makes.values()), rounds=arguments.rounds)
            times = dict(zip(makes, seconds, strict=True))
            fastest = min((label for label in times if label.startswith("torch")), key=times.__getitem__)
            share = times["copy"] / times["ours"]
            ratio = times[fastest] / times["ours"]
            print(f"\n{name}, {task}: {size:,} parameters. Ours: {ratio:.2f} times as fast as {fastest}, {share:.0%} of copy bandwidth")
            for label, value in times.items():
                print(f"  {label:<14} {value * 1e6:10.1f} us {size * BYTES / value / 1e9:8.1f} GB/s", flush=True)
                row = {"optimizer": name, "task": task, "parameters": size, "contestant": label, "microseconds": value * 1e6}
                rows.append(row | {"ratio": value / times["ours"]})
            table = pd.DataFrame(rows).assign(threads=torch.get_num_threads(), processor=machine)
            table.to_csv(arguments.out, index=False, float_format="%.5g")  # after every task: an interrupted benchmark leaves some
    print(f"\nwrote {arguments.out}")


if __name__ == "__main__":
    main()
