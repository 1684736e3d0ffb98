"""Measures the speed of training beside torch's usual loops and JAX; writes the table as CSV.

Contestants are processes that take turns, an epoch each, so that other load affects all alike; medians are compared.
1. On one core and on all: an epoch of every kind of experiment. JAX takes part if installed (`make bench` installs it).
2. On all cores, beside two busy processes and beside a second run of ours: the slowdown of an epoch.
"""

import argparse
import importlib.util
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

import pandas as pd

from experiments.provenance import processor
from experiments.records import PROJECT
from scripts.benchmarks.contestants import WORKS

NETWORKS = ("multilayer network", "autoencoder", "autoencoder, 12 members", "convolutional network")
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


class Contestant:
    """A process that trains epochs of `contestants.WORKS[work]` on request, on so many CPU cores; see `contestants.CONTESTANTS`.

    Raises:
        RuntimeError: the process failed.
    """

    def __init__(self, name: str, work: str, cores: int, device: str = "cpu"):
        environment = {**os.environ, "OMP_NUM_THREADS": str(cores), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # JAX would take the GPU
        if not name.startswith("ours"):
            environment["GOMP_SPINCOUNT"] = "300000"  # libgomp's default, as in others' programs: threads spin
        if name == "JAX" and cores == 1:
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        self._command = command = [sys.executable, "-m", "scripts.benchmarks.contestants", name, work, f"--device={device}"]
        # The last cores: the first tend to serve interrupts.
        limit = (lambda: os.sched_setaffinity(0, CORES[-cores:])) if hasattr(os, "sched_setaffinity") else None
        pipe, self._errors = subprocess.PIPE, tempfile.TemporaryFile("w+")  # noqa: SIM115  # it lasts as long as the process
        self.process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, preexec_fn=limit, stdin=pipe, stdout=pipe, stderr=self._errors, text=True
        )
        self.requests, self.answers = cast(IO[str], self.process.stdin), cast(IO[str], self.process.stdout)

    def wait(self) -> None:
        """Waits until the contestant has trained its first epoch.

        Raises:
            RuntimeError: it failed; the message holds what it printed last.
        """
        if self.answers.readline() != "ready\n":
            self._errors.seek(0)
            raise RuntimeError(f"{' '.join(self._command)} failed:\n{self._errors.read()[-3000:]}")

    def epoch(self) -> float:
        """Trains an epoch; returns its seconds."""
        self.requests.write("go\n")
        self.requests.flush()
        return float(self.answers.readline())

    def stop(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()


def race(names: list[str], work: str, cores: int, rounds: int, device: str = "cpu") -> Iterator[dict]:
    """Lets contestants take turns; yields a row per contestant with its ratio to the first. One that fails in its first epoch has none."""
    with ExitStack() as stack:
        contestants = {}
        # One after another on a CPU, where they choose their threads while nothing else runs; at once on a GPU.
        for group in [[name] for name in names] if device == "cpu" else [names]:
            for name in group:
                contestants[name] = Contestant(name, work, cores, device)
                stack.callback(contestants[name].stop)
            for name in group:
                try:
                    contestants[name].wait()
                except RuntimeError as error:
                    del contestants[name]
                    print(f"{work}: {name} is left out: {error}", file=sys.stderr, flush=True)
        seconds = [{name: contestant.epoch() for name, contestant in contestants.items()} for _ in range(rounds)]
    medians = {name: statistics.median(s[name] for s in seconds) for name in contestants}
    for name, median in medians.items():
        row = {"work": work, "cores": cores, "beside": "nothing", "contestant": name, "seconds": median}
        yield row | {"ratio": median / medians.get(names[0], math.nan)}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Runs so many processes in busy loops for a `with` block."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def beside_others(work: str, rounds: int) -> Iterator[dict]:
    """Measures an epoch of ours on all cores alone, then beside two busy processes or a second run of ours; yields a row with the ratio."""
    for beside in ("2 busy processes", "a second run"):
        with ExitStack() as stack:
            ours = Contestant("ours", work, len(CORES))
            stack.callback(ours.stop)
            ours.wait()
            alone = statistics.median(ours.epoch() for _ in range(rounds))
            if beside == "a second run":
                other = Contestant("ours", work, len(CORES))
                stack.callback(other.stop)
                other.wait()
                other.requests.write("go\n" * 1000)
                other.requests.flush()
            else:
                stack.enter_context(busy(2))
            for _ in range(2):
                ours.epoch()  # reviews its threads
            seconds = statistics.median(ours.epoch() for _ in range(rounds))
        row = {"work": work, "cores": len(CORES), "beside": beside, "contestant": "ours", "seconds": seconds}
        yield row | {"ratio": seconds / alone}


def measure(rounds: int, device: str) -> Iterator[dict]:
    """Yields the rows of the table as they are measured."""
    jax = ["JAX"] if importlib.util.find_spec("jax") and importlib.util.find_spec("optax") else []
    for cores in sorted({1, len(CORES)}) if device == "cpu" else [len(CORES)]:
        for work, description in WORKS.items():
            torch_loops = ["torch", *(["torch, foreach", "torch, compiled"] if device != "cpu" else [])]
            names = ["ours", *(["ours, bfloat16"] if work in NETWORKS else []), *(torch_loops if description.members == 1 else []), *jax]
            if work == "logistic regression" and cores > 1:
                names.append("torch's tutorial")
            if work in NETWORKS and description.members == 1 and device == "cpu":
                names.append("products alone")
            yield from race(names, work, cores, rounds, device)
    if device != "cpu":
        return
    yield from race(["SciPy", "torch.sparse"], "sparse products", 1, rounds)
    for work in ("logistic regression", "multilayer network", "autoencoder", "convolutional network"):
        yield from beside_others(work, rounds)


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=PROJECT / "results" / "bench.csv")
    arguments = parser.parse_args()
    rows = []
    print(f"{'milliseconds an epoch':<34} {'cores':>5} {'beside':<18} {'contestant':<18} {'ms':>9}  ratio", flush=True)
    for row in measure(arguments.rounds, arguments.device):
        rows.append(row)
        cells = f"{row['work']:<34} {row['cores']:>5} {row['beside']:<18} {row['contestant']:<18} {row['seconds'] * 1e3:9.1f}"
        print(f"{cells}  {row['ratio']:.2f}x", flush=True)
        # After every row: an interrupted benchmark leaves those that it has.
        pd.DataFrame(rows).assign(device=arguments.device, processor=processor()).to_csv(arguments.out, index=False, float_format="%.5g")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
