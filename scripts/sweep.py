"""Trains the missing runs of the sweeps in conf/sweeps and draws them: `python -m scripts.sweep fig1 fig2 [key=value ...]`.

First prints a forecast of every part for this machine. A failed run does not stop the others: failures are listed at the end, with exit
status 1. Overrides (key=value) apply to every run that has the key: device=cuda, for example, does not affect properties.
hydra/launcher=NAME chooses the launcher.
"""

import experiments.process  # isort: skip  # before torch

import argparse
import contextlib
import functools
import itertools
import json
import math
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import cast

import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict

from data.loading import check_options, load
from data.types import Dataset
from experiments.config import choose_device, make_training, optimizer_name, resolve, shards
from experiments.errors import ConfigError, one_sentence_errors
from experiments.models import products
from experiments.progress import duration
from experiments.records import PROJECT, Run, key_of, read
from experiments.training.checkpoints import Checkpoint
from experiments.training.loop import seconds_per_epoch
from experiments.training.threads import AVAILABLE, Threads
from hydra_plugins.adam_paper_sweeper import expand

SWEEPS = PROJECT / "conf/sweeps"
# How many jobs train at once, each on its share of the cores: at most one per core.
AT_ONCE = {"parallel": math.inf, "two_at_a_time": 2, "one_by_one": 1}


class Job:
    """One run of run.py.

    Attributes:
        overrides: its command line.
        config_name: Hydra's --config-name: `config` or `properties`.
        config: the resolved configuration.
        runs: the run's files, on real and on stand-in data.
    """

    def __init__(self, overrides: list[str]):
        self.overrides = overrides
        self.config_name = "properties" if any(override.startswith("property=") for override in overrides) else "config"
        cfg = compose(self.config_name, overrides, return_hydra_config=True)
        choices = cfg.hydra.runtime.choices
        with open_dict(cfg):
            del cfg["hydra"]
        if self.config_name == "properties":
            self.config: dict = cast(dict, OmegaConf.to_container(cfg, resolve=True))
            labels = {"measured": choices["property"]}
        else:
            self.config = config = resolve(cfg, overrides)
            check_options(**config["data"])
            labels = {"experiment": config["experiment"], "settings": config["settings"], "optimizer": optimizer_name(config)}
        self.runs = Run.on_both_data(self.config, overrides, **labels)

    def finished(self) -> dict[str, int]:
        """Returns when the run was finished, in nanoseconds, on `real` and on `standin` data, if it was."""
        return {data: run.csv.with_suffix(".json").stat().st_mtime_ns for data, run in self.runs.items() if run.is_complete()}

    def needs_training(self) -> bool:
        """Returns whether run.py would train: there is no finished run on the data that it would load, or force=true."""
        complete = {data: run.is_complete() for data, run in self.runs.items()}
        if self.config_name == "properties":
            return self.config["force"] or not complete["real"]
        source = self.config["data"]["source"]
        if source == "auto" and complete["standin"] and not complete["real"]:  # the real data may be there now
            source = _load(json.dumps(self.config["data"]), choose_device(self.config["device"])).source
        return self.config["force"] or not complete["standin" if source == "standin" else "real"]

    def shards(self) -> list[list[str]]:
        """Returns one command line per shard of the members; the last to finish writes the run. With force=true, one in all."""
        count = 1 if self.config_name == "properties" or self.config["force"] else len(shards(self.config))
        return [[*self.overrides, f"part={number}"] for number in range(count)] if count > 1 else [self.overrides]

    def epochs_left(self) -> int:
        """Returns the number of epochs left to train, summed over the shards."""
        numbers = range(len(shards(self.config)))
        done = max(sum(Checkpoint.of(run, number).epochs() for number in numbers) for run in self.runs.values())
        return len(numbers) * self.config["epochs"] - done

    def forecast(self, seconds: dict[tuple, float], at_once: int) -> float:
        """Returns the remaining seconds of training, estimated from a few steps; for a property, the seconds of the tracked run.

        Args:
            seconds: caches the seconds per epoch, by kind of work.
            at_once: how many jobs share the cores.
        """
        if self.config_name == "properties":
            tracked = read(PROJECT / f"results/reference/properties/{self.runs['real'].measured}.csv")
            return tracked.facts["training_seconds"] if tracked else 0.0
        config, parts, device = self.config, shards(self.config), choose_device(self.config["device"], self.config["precision"])
        share = AVAILABLE // at_once
        threads = config["threads"] if share == AVAILABLE else min(share, config["threads"] if config["threads"] != "auto" else share)
        kind = (
            *(config[key] for key in ("experiment", "batch_size", "precision")),
            *(config["data"]["examples"], config["optimizer"].get("minibatches"), parts[0].members, threads),
        )
        if kind not in seconds:
            products.use(config["products"])
            training = make_training(config, parts[0], _load(json.dumps(config["data"]), device), device)
            seconds[kind] = Threads(threads if device.type == "cpu" else AVAILABLE, lambda: seconds_per_epoch(training)).seconds
        return self.epochs_left() * seconds[kind]


@functools.lru_cache(maxsize=1)
def _load(options: str, device: torch.device) -> Dataset:
    return load(**json.loads(options), device=device)


@dataclass
class Part:
    """An entry of a sweep: runs launched together, as a job for each shard of their members if several train at once.

    Attributes:
        sweep: the name of the sweep.
        title: the overrides that all runs share.
        lines: the overrides of each run.
        at_once: how many jobs train at once.
        seconds: forecast for the missing runs.
    """

    sweep: str
    title: str
    lines: list[list[str]]
    at_once: int
    seconds: float = 0.0

    @cached_property
    def jobs(self) -> list[Job]:
        """The runs; Hydra must be initialised at first access."""
        return [Job(line) for line in self.lines]

    def missing(self) -> list[Job]:
        """Returns the runs to train."""
        return [job for job in self.jobs if job.needs_training()]

    def forecast(self, seconds: dict[tuple, float]) -> None:
        """Sets `self.seconds` to a forecast for this machine; `seconds` as in `Job.forecast`."""
        forecasts = [(job.forecast(seconds, self.at_once), len(job.shards())) for job in self.missing()]
        longest = max((one / shards for one, shards in forecasts), default=0.0)
        self.seconds = max(sum(one for one, _ in forecasts) / self.at_once, longest)

    def __str__(self) -> str:
        """Returns the number of missing runs, the forecast and the title."""
        left = len(self.missing())
        time = f"about {duration(self.seconds)}" if left else "complete"
        return f"{self.sweep:<12} {f'{left} of {len(self.jobs)}':>8} runs  {time:<18} {self.title}"


def read_sweep(name: str, quick: bool, overrides: Sequence[str]) -> Iterator[Part | str]:
    """Yields the parts of a sweep in the order of its file, then its `python -m` commands.

    Args:
        name: path of the file without .yaml, absolute or relative to conf/sweeps. The keys of AT_ONCE list command lines of run.py; a
            mapping {shared: [added, ...]} stands for several lines. `sweeps` lists sweeps to include first, `then` commands.
        quick: whether to read the file's `quick` section instead, if it has one.
        overrides: for every run.

    Raises:
        ConfigError: there is no such sweep.
    """
    path = SWEEPS / f"{name}.yaml"
    if not path.exists():
        known = sorted(path.relative_to(SWEEPS).with_suffix("").as_posix() for path in SWEEPS.rglob("*.yaml"))
        raise ConfigError(f"{name} is not a sweep: choose one of {', '.join(known)}")
    sweep = yaml.safe_load(path.read_text())
    for included in sweep.get("sweeps", []):
        yield from read_sweep(included, quick, overrides)
    for mode, entries in (sweep["quick"] if quick and "quick" in sweep else sweep).items():
        for entry in entries if mode in AT_ONCE else []:
            shared, added = next(iter(entry.items())) if isinstance(entry, dict) else (entry, [""])
            given = [[*shared.split(), *more.split()] for more in added]
            lines = [line for some in given for line in expand([*some, *(one for one in overrides if _applies(one, some))])]
            yield Part(name, shared, lines, int(min(AT_ONCE[mode], AVAILABLE)))
    yield from sweep.get("then", [])


def _applies(override: str, line: Sequence[str]) -> bool:
    """Returns whether the configuration of a command line has the override's key."""
    if not any(one.startswith("property=") for one in line):
        return True
    group, _, _ = key_of(override).partition(".")
    return group == "property" or group in yaml.safe_load((PROJECT / "conf/properties.yaml").read_text())


def launch(jobs: Sequence[Job], by_shard: bool, arguments: Sequence[str], deadline: float) -> None:
    """Runs run.py on the jobs and waits for it.

    Args:
        jobs: training runs and measured properties; each kind gets a process, because its configuration differs.
        by_shard: whether every shard of a run is a job of its own.
        arguments: further arguments of run.py.
        deadline: the time.monotonic() at which to interrupt.

    Raises:
        subprocess.TimeoutExpired: the deadline has passed.
    """
    with contextlib.ExitStack() as stack:
        processes = []
        for config, chosen in itertools.groupby(sorted(jobs, key=attrgetter("config_name")), attrgetter("config_name")):
            file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".json"))
            json.dump([line for job in chosen for line in (job.shards() if by_shard else [job.overrides])], file)
            file.flush()
            settings = (f"hydra.sweeper.jobs={file.name}", f"results={jobs[0].config['results']}", *arguments)
            command = (sys.executable, "run.py", "--config-name", config, "-m", *settings)
            processes.append(stack.enter_context(subprocess.Popen(command, cwd=PROJECT)))
        try:
            for process in processes:
                process.wait(None if deadline == math.inf else max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            for process in processes:
                process.send_signal(signal.SIGINT)
            raise


def main() -> None:
    """Forecasts, trains and draws the sweeps named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arguments", nargs="+", help="sweeps, and overrides for all runs")
    parser.add_argument("--scale", choices=["full", "quick"], default="full", help="quick: a smoke test with fewer images and epochs")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this many minutes")
    parser.add_argument("--forecast", action="store_true", help="print the forecast only")
    options = parser.parse_intermixed_args()
    names = [argument for argument in options.arguments if "=" not in argument]
    hydra = [argument for argument in options.arguments if argument.lstrip("+~").startswith("hydra")]
    overrides = [argument for argument in options.arguments if argument not in (*names, *hydra)]
    local = not any(argument.startswith("hydra/launcher=") for argument in hydra)
    experiments.process.prepare_process()  # for forecasts as fast as runs
    deadline, failed = time.monotonic() + options.minutes * 60, []
    with one_sentence_errors():
        steps = [step for name in names for step in read_sweep(name, options.scale == "quick", overrides)]
        parts = [step for step in steps if isinstance(step, Part)]
        seconds: dict[tuple, float] = {}
        with initialize_config_dir(version_base="1.3", config_dir=str(PROJECT / "conf")):
            for part in parts:
                part.forecast(seconds)
                print(part, flush=True)
        print(f"In total about {duration(sum(part.seconds for part in parts))} of training on this machine.", flush=True)
        if options.forecast:
            return
        if not local:  # submit all runs to the cluster at once
            jobs = Part(" ".join(names), " ".join(hydra), [], AVAILABLE, sum(part.seconds for part in parts))
            jobs.jobs = [job for part in parts for job in part.jobs]
            steps = [jobs, *(step for step in steps if isinstance(step, str))]
        for step in steps:
            if isinstance(step, str):
                command = [word.format(results=parts[0].jobs[0].config["results"]) for word in step.split()]
                if subprocess.run((sys.executable, "-m", *command), cwd=PROJECT).returncode:
                    failed.append(f"python -m {shlex.join(command)}")
            elif missing := step.missing():
                print(f"\n{step}", flush=True)
                workers = [f"hydra.launcher.n_jobs={step.at_once}"] if local else []
                before = [(job, job.finished()) for job in missing]
                try:
                    launch(missing, not local or step.at_once > 1, [*workers, *hydra], deadline)
                    # On a network file system the last shards may miss each other's checkpoints; then none of them wrote the run.
                    if not local:
                        unwritten = [job for job, then in before if job.finished() == then and job.config_name == "config"]
                        launch([job for job in unwritten if not job.epochs_left()], False, [], deadline)
                except subprocess.TimeoutExpired:
                    sys.exit(f"--minutes={options.minutes:g} reached: rerun the command to resume")
                failed += [f"python run.py {shlex.join(job.overrides)}" for job, then in before if job.finished() == then]
        if failed:
            sys.exit("\n".join(["error: these commands failed; rerun the sweep to retry them:", *failed]))


if __name__ == "__main__":
    main()
