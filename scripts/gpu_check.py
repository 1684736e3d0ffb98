"""Tests, measures and trains on a GPU in 12 minutes at most: `python -m scripts.gpu_check [--out FOLDER] [part ...] [key=value ...]`.

The parts run one after another, the most valuable first; each may use the time that earlier ones left. One that fails or runs out of time
does not stop the next. Training resumes when the command is run again. Needs no internet, and nothing but the standard library itself.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent.parent


class Part(NamedTuple):
    """A program of the check.

    Attributes:
        name: of its log; programs that share it are chosen together.
        minutes: how long it may take, besides what earlier ones left.
        arguments: of Python.
    """

    name: str
    minutes: float
    arguments: list[str]


def parts(device: str, out: Path, overrides: list[str]) -> list[Part]:
    """Returns all parts; logs, tables and runs go to `out`, and `overrides` are for every training run."""
    # A hanging test ends its worker, as a broken device does (tests/conftest.py): others take its place, up to 1000 times.
    pytest = "-m pytest -m gpu -v -n 6 --dist worksteal --max-worker-restart 1000 --continue-on-collection-errors"
    hanging = ["-o", "faulthandler_timeout=60", "-o", "faulthandler_exit_on_timeout=true"]
    runs = ["experiment=fig3,fig3_dropout", "optimizer=adam,adagrad,sgd_nesterov", f"device={device}", f"results={out / 'runs'}"]
    train = ["run.py", "-m", "hydra.launcher.n_jobs=1", *runs, *overrides]
    measure = [f"--device={device}", "--rounds=5"]
    return [
        Part("machine", 0.25, ["-m", "torch.utils.collect_env"]),
        Part("tests", 2.75, [*pytest.split(), *hanging]),
        Part("optimizers", 0.75, ["-m", "scripts.benchmarks.optimizers", *measure, f"--out={out / 'optimizers.csv'}"]),
        Part("epochs", 1.75, ["-m", "scripts.benchmarks.training", *measure, f"--out={out / 'epochs.csv'}"]),
        Part("figure3", 4, train),
        Part("figure3", 1, [*train, "precision=tf32"]),
        Part("figure3", 1, [*train, "precision=float32"]),
        Part("figure3", 0.25, ["-m", "scripts.plot", "--no-figures", str(out / "runs")]),
    ]


def run(part: Part, out: Path, seconds: float) -> bool:
    """Runs a part, interrupts it after so many seconds and adds what it prints to its log; returns whether it succeeded."""
    # timeout of the GNU core utilities: Ctrl-C first, on which a run keeps its checkpoint, then SIGKILL.
    limit = ["timeout", "--foreground", "--signal=INT", "--kill-after=15", f"{max(seconds, 1):.0f}"]
    start = time.monotonic()
    with (out / f"{part.name}.log").open("a") as log:
        print("$ python", *part.arguments, file=log, flush=True)
        command, environment = [*limit, sys.executable, *part.arguments], os.environ | {"PYTHONUNBUFFERED": "1"}
        status = subprocess.run(command, cwd=PROJECT, env=environment, stdout=log, stderr=subprocess.STDOUT).returncode
        words = {0: "done", 124: "out of time", 137: "killed: out of time"}.get(status, f"failed with status {status}")
        for file in (log, sys.stdout):
            print(f"{part.name}: {words} after {time.monotonic() - start:.0f} s", file=file, flush=True)
    return status == 0


def main() -> None:
    """Runs the parts named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arguments", nargs="*", help="parts: machine, tests, optimizers, epochs, figure3; overrides for training runs")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=PROJECT / "build" / "gpu-check", help="folder of logs, tables and runs")
    given = parser.parse_intermixed_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    names = [argument for argument in given.arguments if "=" not in argument]
    every = parts(given.device, out, [argument for argument in given.arguments if "=" in argument])
    if unknown := set(names) - {part.name for part in every}:
        parser.error(f"{', '.join(unknown)} is not a part: choose from {', '.join(dict.fromkeys(part.name for part in every))}")
    end, succeeded = time.monotonic(), []
    for part in every:
        if part.name in names or not names:
            end += part.minutes * 60
            succeeded.append(run(part, out, end - time.monotonic()))
    print(f"logs, tables and runs are in {out}")
    sys.exit(int(not all(succeeded)))


if __name__ == "__main__":
    main()
