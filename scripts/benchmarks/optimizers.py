"""Measures the speed of an optimizer's step beside torch's and, if installed, optax's; writes the table as CSV.

Contestants take turns. Each turn allocates fresh parameters, gradients and state, because their place in memory affects speed, and takes
several steps; the table has medians over rounds, in microseconds per step. In one pass over memory, a float32 step of Adam or AdaMax reads
four numbers per parameter (theta, g and two of state) and writes three: 28 bytes, on which GB/s are based. `copy` is torch's copy of as
many bytes, half read and half written: the machine's bandwidth.
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
from torch.utils.benchmark import Timer

import optim
from experiments.provenance import processor
from experiments.records import PROJECT

SHAPES: dict[str, list[tuple[int, ...]]] = {
    "logistic regression": [(10, 784), (10,)],
    "200 tensors of 1,000": [(1000,)] * 200,
    "VAE": [(500, 784), (500,), (50, 500), (50,), (50, 500), (50,), (500, 50), (500,), (784, 500), (784,)],
    "MLP": [(1000, 784), (1000,), (1000, 1000), (1000,), (10, 1000), (10,)],
    "CNN": [(64, 3, 5, 5), (64,), (64, 64, 5, 5), (64,), (128, 64, 5, 5), (128,), (1000, 2048), (1000,), (10, 1000), (10,)],
    "20 million": [(20, 1000, 1000)],
}
BYTES = 28
# Seconds of a turn: long enough to warm the caches.
TURN = 0.05

# Run in a fresh process; prints the seconds of the first step.
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
    """Returns our and torch's optimizers of that name, by implementation."""
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


def turn(make: Callable[[], Callable]) -> float:
    """Returns the seconds of a step of a newly allocated contestant."""
    timer = Timer("step()", globals={"step": make()}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=TURN).median


def copy(size: int, device: torch.device) -> Callable[[], object]:
    """Returns a copy that moves as many bytes as a step on `size` parameters."""
    left, right = (torch.ones(size * BYTES // 8, device=device) for _ in range(2))
    return partial(left.copy_, right)


def torch_step(make: Callable, shapes: list[tuple[int, ...]], device: torch.device) -> Callable[[], object]:
    """Returns a step of our or torch's optimizer on random parameters and gradients."""
    thetas = [torch.randn(shape, device=device, requires_grad=True) for shape in shapes]
    for theta in thetas:
        theta.grad = torch.randn_like(theta)
    return make(thetas).step


def optax_is_there(device: torch.device) -> bool:
    """Returns whether optax is installed and JAX uses this kind of device."""
    try:
        import jax
        import optax  # noqa: F401
    except ImportError:
        return False
    return (jax.default_backend() == "cpu") == (device.type == "cpu")


def optax_step(name: str, shapes: list[tuple[int, ...]]) -> Callable[[], object]:
    """Returns a step of optax, compiled by JAX with donated buffers."""
    import jax
    import optax

    rule = {"Adam": optax.adam, "AdaMax": optax.adamax}[name](1e-3)
    thetas = [jax.random.normal(jax.random.key(k), shape) for k, shape in enumerate(shapes)]
    gradients = [jax.random.normal(jax.random.key(len(shapes) + k), shape) for k, shape in enumerate(shapes)]
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
    """Returns the seconds of a fresh process's first step: with compilation, and from the cache."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-c", _FIRST_STEP.format(device=device)]
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
    compiled, cached = (float(run.stdout) for run in runs)
    return compiled, cached


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=PROJECT / "results" / "bench_optim.csv")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
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
            rounds = [{label: turn(make) for label, make in makes.items()} for _ in range(arguments.rounds + 1)]
            times = pd.DataFrame(rounds[1:]).median().to_dict()  # without the warm-up round
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
