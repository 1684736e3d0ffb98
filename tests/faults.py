"""Kills, flipped bits, tampered files and two processes at once: `python -m tests.faults --kills 100 --flips 200` prints what came of them.

Every trial is a process of its own, forked from one that has imported everything. It passes if the run ends with the CSV of an undisturbed
run, or (only after damage) in one sentence, and leaves nothing behind but its CSV and JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from filelock import SoftFileLease

import run as program
from data.loading import REGISTRY
from data.rows import DenseRows
from data.tensor_files import load_tensors, save_tensors
from data.types import Dataset, Split
from data.whitening import Whitening
from experiments.training.checkpoints import Checkpoint
from tests.tamperings import TAMPERINGS

PROJECT = Path(__file__).resolve().parent.parent
_SMALL = ("data.source=standin", "data.examples=300", "batch_size=100", "epochs=3", "threads=1", "products=torch", "device=cpu")
JOBS = {
    "logistic regression": ("seed=[0,1]", "model.dropout=0.25"),
    "compilation": ("seed=0", "optimizer=adamax"),
    "shards": ("seed=[0,1]", "shard=1"),
    "diverging members": ("seed=0", "optimizer=sgd_nesterov", "optimizer.lr=[1e38,1e-2]"),
    "torch's NAdam": ("seed=0", "optimizer=nadam"),
    "dropout": ("seed=0", "experiment=fig2a", "model.hidden=10", "schedule=inverse_sqrt_epoch", "decay=1"),
    "SFO": ("seed=0", "experiment=fig2b", "optimizer=sfo", "optimizer.minibatches=3", "model.hidden=10"),
    "autoencoder": (
        "seed=0",
        "experiment=fig4",
        "settings=quick",
        "optimizer.lr=[1e-3]",
        "optimizer.beta1=[0.9]",
        "optimizer.beta2=[0.99]",
    ),
    "trained again": ("seed=0", "force=true"),
}
_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.utime", "os.chmod", "fcntl.flock"}


class Laboratory:
    """A folder for trials, which take each other's place, and the processes that work in it."""

    def __init__(self, folder: Path):
        self.folder, self.results, self.cache, self.temporary = folder, folder / "results", folder / "cache", folder / "tmp"
        self._output, self._accesses = folder / "output", folder / "accesses"
        os.environ["XDG_CACHE_HOME"] = str(self.cache)
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.temporary)
        self.temporary.mkdir()
        for name, entry in REGISTRY.items():
            REGISTRY[name] = entry._replace(standin=functools.cache(entry.standin))
        with contextlib.redirect_stdout(None):  # so that processes that are forked have it all: Hydra's plugins, stand-in data
            self._run(next(iter(JOBS)))

    def prepare(self, job: str) -> None:
        """Empties the folder, but for what a job starts from."""
        for path in (self.results, self.temporary, *([self.cache] if job == "compilation" else [])):
            shutil.rmtree(path, ignore_errors=True)
        self.temporary.mkdir()
        if job == "trained again":
            self.finish(self.start(job))

    @functools.cache  # noqa: B019
    def undisturbed(self, job: str) -> tuple[dict[str, bytes], int, float]:
        """Returns the tables of a job that nothing happens to, how often it accesses files, and its seconds."""
        for _ in "ab":  # the first fills the cache
            self.prepare(job)
            start = time.perf_counter()
            status, text = self.finish(self.start(job))
        assert (status, self.left_behind()) == (0, []), text
        return self.tables(), int(self._accesses.read_text()), time.perf_counter() - start

    def start(self, job: str, kill_at: int = 0, kill_after_save: int = 0) -> int:
        """Starts a job in a process, which is killed before an access to a file or after a checkpoint, unless their number is 0."""
        self._output.touch()
        if pid := os.fork():
            return pid
        with self._output.open("a") as output:
            os.dup2(output.fileno(), 1), os.dup2(output.fileno(), 2)
        accesses, saves, save = itertools.count(1), itertools.count(1), Checkpoint.save

        def count(event: str, arguments: tuple) -> None:
            if event in _EVENTS and (event == "fcntl.flock" or str(self.folder) in str(arguments[0])) and next(accesses) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        def save_and_count(*arguments: object) -> None:
            save(*arguments)
            if next(saves) == kill_after_save:
                os.kill(os.getpid(), signal.SIGKILL)

        Checkpoint.save = save_and_count
        sys.addaudithook(count)
        status = 0
        try:
            self._run(job)
        except SystemExit as error:
            print(error.code, file=sys.stderr)
            status = 1
        except BaseException:
            traceback.print_exc()
            status = 2
        sys.stdout.flush(), sys.stderr.flush()
        self._accesses.write_text(str(next(accesses)))
        os._exit(status)

    def _run(self, job: str) -> None:
        sys.argv = ["run.py", f"results={self.results}", *_SMALL, *JOBS[job]]
        program.cli()

    def finish(self, *pids: int) -> tuple[int, str]:
        """Waits for processes; returns their largest exit status and what all since the last call wrote."""
        status = max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)
        text = self._output.read_text()
        self._output.unlink()
        return status, text

    def tables(self) -> dict[str, bytes]:
        """Returns the content of each CSV."""
        return {path.name: path.read_bytes() for path in self.results.rglob("*.csv")}

    def left_behind(self) -> list[str]:
        """Returns the names of files and folders that nobody needs any more."""
        needed = {path.with_suffix(suffix) for path in self.results.rglob("*.csv") for suffix in (".csv", ".json")}
        needed |= set(self.cache.rglob("*.so")) | {path for path in self.results.rglob("*") if path.is_dir()}
        found = (path for folder in (self.results, self.temporary, self.cache / "adam-paper") for path in folder.rglob("*"))
        return sorted(path.name for path in found if path not in needed)

    def processes(self) -> list[int]:
        """Returns the processes that run.py has started here, on Linux."""
        found = []
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if str(self.temporary) in environment.read_text(errors="replace") and int(environment.parent.name) != os.getpid():
                    found.append(int(environment.parent.name))
        return found

    @contextlib.contextmanager
    def interrupted(self, job: str) -> Iterator[Callable[[], None]]:
        """Yields a function that restores the files of a job that was killed after its second checkpoint."""
        self.prepare(job)
        self.finish(self.start(job, kill_after_save=2))
        kept = self.folder / "kept"
        shutil.copytree(self.results, kept)

        def restore() -> None:
            shutil.rmtree(self.results)
            shutil.copytree(kept, self.results)

        yield restore
        shutil.rmtree(kept)


@dataclass
class Trials:
    """The outcomes of the faults of one kind."""

    kind: str
    laboratory: Laboratory
    trials: int = 0
    same: int = 0
    sentences: int = 0
    failures: list[str] = field(default_factory=list)

    def judge(self, fault: str, outcome: tuple[int, str], expected: dict[str, bytes], may_refuse: bool = False) -> None:
        """Counts a trial: the run ended with the same tables and nothing else, or, if it may, refused in a sentence."""
        (status, text), left, self.trials = outcome, self.laboratory.left_behind(), self.trials + 1
        if "Traceback" not in text and status == 0 and self.laboratory.tables() == expected and not left:
            self.same += 1
        elif "Traceback" not in text and status == 1 and may_refuse and text.strip().splitlines()[-1].startswith("error: "):
            self.sentences += 1
        else:
            self.failures.append(f"{self.kind}, {fault}: status {status}, left behind {left}: {text[-1500:]}")


def kill_at_accesses(trials: Trials, job: str, kills: int, rng: random.Random) -> None:
    """Kills a job at so many of its accesses to files, or at all of them, and runs it again."""
    laboratory = trials.laboratory
    expected, accesses, _ = laboratory.undisturbed(job)
    for access in sorted(rng.sample(range(1, accesses), min(kills, accesses - 1))):
        laboratory.prepare(job)
        laboratory.finish(laboratory.start(job, kill_at=access))
        trials.judge(f"{job}, access {access}", laboratory.finish(laboratory.start(job)), expected)


def kill_at_random(trials: Trials, job: str, kills: int, rng: random.Random) -> None:
    """Kills a job up to three times in a row, each after a random time, and runs it again."""
    laboratory = trials.laboratory
    expected, _, seconds = laboratory.undisturbed(job)
    for _ in range(kills):
        laboratory.prepare(job)
        for _ in range(times := rng.randint(1, 3)):
            pid = laboratory.start(job)
            time.sleep(rng.uniform(0, seconds))
            os.kill(pid, signal.SIGKILL)
            laboratory.finish(pid)
        trials.judge(f"{job}, {times} times", laboratory.finish(laboratory.start(job)), expected)


def two_at_once(trials: Trials, job: str, pairs: int, rng: random.Random) -> None:
    """Starts two processes with the same job; kills the first of every other pair on its way."""
    laboratory = trials.laboratory
    expected, _, seconds = laboratory.undisturbed(job)
    for pair in range(pairs):
        laboratory.prepare(job)
        first = laboratory.start(job)
        time.sleep(rng.uniform(0, seconds / 2))
        second = laboratory.start(job)
        if pair % 2:
            time.sleep(rng.uniform(0, seconds))
            os.kill(first, signal.SIGKILL)
        trials.judge(f"{job}, pair {pair}", laboratory.finish(first, second), expected)


def flip_checkpoints(trials: Trials, job: str, flips: int, rng: random.Random) -> None:
    """Flips a bit of a checkpoint of a killed job, and runs it again."""
    laboratory = trials.laboratory
    expected, *_ = laboratory.undisturbed(job)
    with laboratory.interrupted(job) as restore:
        for _ in range(flips):
            restore()
            path = rng.choice(sorted(laboratory.results.rglob("*.checkpoint*")))
            bit = flip(path, rng)
            trials.judge(f"{job}, bit {bit} of {path.name}", laboratory.finish(laboratory.start(job)), expected, may_refuse=True)


def flip_records(trials: Trials, job: str, flips: int, rng: random.Random) -> None:
    """Flips a bit of the CSV or JSON of a finished job, and runs it again."""
    laboratory = trials.laboratory
    expected, *_ = laboratory.undisturbed(job)
    laboratory.prepare(job)
    laboratory.finish(laboratory.start(job))
    kept = {path: path.read_bytes() for path in laboratory.results.rglob("*.*")}
    for _ in range(flips):
        path = rng.choice(sorted(kept))
        bit = flip(path, rng)
        trials.judge(f"{job}, bit {bit} of {path.name}", laboratory.finish(laboratory.start(job)), expected, may_refuse=True)
        for path, content in kept.items():
            path.write_bytes(content)


def flip_whitening(trials: Trials, flips: int, rng: random.Random) -> None:
    """Flips a bit of a cached whitening matrix: it is fitted again."""
    cache = trials.laboratory.folder / "whitening"
    pixels, classes = torch.rand(60, 12, generator=torch.Generator().manual_seed(0)), torch.zeros(60, dtype=torch.int64)
    dataset = Dataset("real", Split(DenseRows(pixels), classes), Split(DenseRows(pixels), classes), classes=2, checksums={})
    expected = Whitening()(dataset, cache).train.inputs.values
    (path,) = cache.iterdir()
    content = path.read_bytes()
    for _ in range(flips):
        bit, trials.trials = flip(path, rng), trials.trials + 1
        if torch.equal(Whitening()(dataset, cache).train.inputs.values, expected) and path.read_bytes() == content:
            trials.same += 1
        else:
            trials.failures.append(f"{trials.kind}, bit {bit} of {path.name}")
            path.write_bytes(content)


def tamper(trials: Trials, job: str, changes: int, rng: random.Random) -> None:
    """Changes what a checkpoint holds, with a new digest and without, and runs the job again."""
    laboratory = trials.laboratory
    expected, *_ = laboratory.undisturbed(job)
    with laboratory.interrupted(job) as restore:
        for change in rng.sample(sorted(TAMPERINGS), changes):
            for save, digest in ((save_tensors, "new"), (torch.save, "no")):
                restore()
                (path,) = laboratory.results.rglob("*.checkpoint0")
                saved = load_tensors(path)
                other = TAMPERINGS[change](saved)
                save(saved if other is None else other, path)
                outcome = laboratory.finish(laboratory.start(job))
                trials.judge(f"{job}, {change}, {digest} digest", outcome, expected, may_refuse=True)


def kill_sweeps(trials: Trials, kills: int, rng: random.Random) -> None:
    """Kills a sweep, or one of its workers, and runs it again."""
    laboratory = trials.laboratory
    command = [
        sys.executable,
        "run.py",
        "-m",
        f"results={laboratory.results}",
        *_SMALL,
        "epochs=100",
        "seed=0",
        "optimizer=adam,adamax,adagrad",
    ]

    def start() -> subprocess.Popen:
        return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    laboratory.prepare("sweep")
    begin, (text, _) = time.perf_counter(), (sweep := start()).communicate()
    seconds, expected = time.perf_counter() - begin, laboratory.tables()
    assert (sweep.returncode, len(expected)) == (0, 3), text
    for kill in range(kills):
        laboratory.prepare("sweep")
        sweep = start()
        if kill % 2:
            while not (pids := [pid for lock in laboratory.results.rglob(".*.lock") if (pid := SoftFileLease(lock).pid)]):
                time.sleep(0.01)
            os.kill(pids[0], signal.SIGKILL)
            text, _ = sweep.communicate()
            if "Traceback" in text or "error: the process that was training " not in text:
                trials.failures.append(f"{trials.kind}, a worker: {text[-1500:]}")
        else:
            time.sleep(rng.uniform(0, seconds))
            sweep.kill()
            sweep.wait()
        deadline = time.monotonic() + 5
        while (alive := laboratory.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        if alive:
            trials.failures.append(f"{trials.kind}: {alive} outlive their parent")
        text, _ = (sweep := start()).communicate()
        trials.judge(f"trial {kill}", (sweep.returncode, text), expected)


def flip(path: Path, rng: random.Random) -> int:
    """Flips a random bit of a file; returns which."""
    content, bit = bytearray(path.read_bytes()), rng.randrange(8 * path.stat().st_size)
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    return bit


def main() -> None:
    """Makes the trials, prints a table of their outcomes, and ends with an error if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="at random times, in all; and at accesses to files, of each job")
    parser.add_argument("--flips", type=int, default=200, help="of checkpoints, of whitening matrices, and of CSV and JSON files")
    parser.add_argument("--tamperings", type=int, default=len(TAMPERINGS), help="of a checkpoint, each with a new digest and without")
    parser.add_argument("--sweeps", type=int, default=10, help="that are killed")
    parser.add_argument("--jobs", type=int, default=len(JOBS), help="the first so many of the kinds of runs")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a process with more of them cannot be forked
    rng, jobs = random.Random(arguments.seed), list(JOBS)[: arguments.jobs]
    kills, flips = (math.ceil(number / len(jobs)) for number in (arguments.kills, arguments.flips))
    with tempfile.TemporaryDirectory() as folder:
        laboratory = Laboratory(Path(folder))
        accesses, moments, pairs, checkpoints, matrices, records, tamperings, sweeps = table = [
            Trials(kind, laboratory)
            for kind in ("killed at an access to a file", "killed one to three times, at random", "two at once, one killed or none",
                         "bit of a checkpoint flipped", "bit of a whitening matrix flipped", "bit of a CSV or JSON flipped",
                         "checkpoint tampered with", "sweep or its worker killed")
        ]  # fmt: skip
        for job in jobs:
            kill_at_accesses(accesses, job, arguments.kills, rng)
            kill_at_random(moments, job, kills, rng)
            two_at_once(pairs, job, math.ceil(kills / 4), rng)
            flip_checkpoints(checkpoints, job, flips, rng)
        flip_whitening(matrices, arguments.flips, rng)
        flip_records(records, jobs[0], arguments.flips, rng)
        tamper(tamperings, jobs[0], arguments.tamperings, rng)
        if arguments.sweeps:
            kill_sweeps(sweeps, arguments.sweeps, rng)
    print("| fault | trials | same numbers | refused in a sentence | failed |", "|---|---|---|---|---|", sep="\n")
    for trials in table:
        print(f"| {trials.kind} | {trials.trials} | {trials.same} | {trials.sentences} | {len(trials.failures)} |")
    failures = [failure for trials in table for failure in trials.failures]
    sys.exit("\n\n".join(failures) or None)


if __name__ == "__main__":
    main()
