"""Trains what is missing of the sweeps in conf/sweeps and draws it: `python -m scripts.sweep fig1 fig2 [key=value ...]`.

Prints first how long every part takes on this machine. A failed run does not stop the others: they are listed at the end, and the exit
status is 1. Overrides (key=value) hold for every run; hydra/launcher=NAME chooses what launches the runs.
"""

import argparse
import contextlib
import functools
import itertools
import json
import math
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
from experiments.config import choose_device, optimizer_name, resolve, shards, train_arguments
from experiments.errors import ConfigError, one_sentence_errors
from experiments.models import products
from experiments.progress import duration
from experiments.records import PROJECT, Run, read
from experiments.training.checkpoints import Checkpoint
from experiments.training.loop import seconds_per_pass
from experiments.training.threads import AVAILABLE, Threads
from hydra_plugins.adam_paper_sweeper import expand

SWEEPS = PROJECT / "conf/sweeps"


class Job:
    """One run of run.py.

    Args:
        overrides: its command line.

    Attributes:
        config_name: of the configuration, `config` or `properties`.
        config: the resolved configuration.
        runs: its files on real and on stand-in data.
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

    def is_complete(self) -> bool:
        """Returns whether the run is finished, if only on stand-in data."""
        return any(run.is_complete() for run in self.runs.values())

    def shards(self) -> list[list[str]]:
        """Returns the command lines that train one shard of the members each; the last one to finish writes the run."""
        count = 1 if self.config_name == "properties" else len(shards(self.config))
        return [[*self.overrides, f"part={number}"] for number in range(count)] if count > 1 else [self.overrides]

    def epochs_left(self) -> int:
        """Returns how many epochs the shards of the members have to train yet, one after another."""
        numbers = range(len(shards(self.config)))
        done = max(sum(Checkpoint.of(run, number).passes() for number in numbers) for run in self.runs.values())
        return len(numbers) * self.config["passes"] - done

    def forecast(self, seconds: dict[tuple, float]) -> float:
        """Returns the seconds of training that are left, from a few steps taken here; a property's are those of the tracked run.

        Args:
            seconds: those of an epoch of every kind of work that has been measured; this one's is added.
        """
        if self.config_name == "properties":
            tracked = read(PROJECT / f"results/reference/properties/{self.runs['real'].measured}.csv")
            return tracked.facts["training_seconds"] if tracked else 0.0
        config, parts, device = self.config, shards(self.config), choose_device(self.config["device"], self.config["precision"])
        kind = (
            *(config[key] for key in ("experiment", "batch_size", "precision")),
            *(config["data"]["examples"], config["optimizer"].get("minibatches"), parts[0].members, torch.get_num_threads()),
        )
        if kind not in seconds:
            products.use(config["products"])
            arguments = train_arguments(config, parts[0], _load(json.dumps(config["data"]), device), device)
            seconds[kind] = Threads(config["threads"] if device.type == "cpu" else AVAILABLE, lambda: seconds_per_pass(*arguments)).seconds
        return self.epochs_left() * seconds[kind]


@functools.lru_cache(maxsize=1)
def _load(options: str, device: torch.device) -> Dataset:
    return load(**json.loads(options), device=device)


@dataclass
class Part:
    """Runs that are launched together, an entry of a sweep.

    Attributes:
        sweep: the name of the sweep.
        title: the overrides that all of them share.
        lines: the overrides of each.
        parallel: whether they run side by side, each on its share of the cores, or one after another.
        seconds: how long those that are missing will take.
    """

    sweep: str
    title: str
    lines: list[list[str]]
    parallel: bool
    seconds: float = 0.0

    @cached_property
    def jobs(self) -> list[Job]:
        """The runs; Hydra must be initialised when they are asked for first."""
        return [Job(line) for line in self.lines]

    def missing(self) -> list[Job]:
        """Returns the runs that are not finished."""
        return [job for job in self.jobs if not job.is_complete()]

    def forecast(self, seconds: dict[tuple, float]) -> None:
        """Measures how long the missing runs take on this machine; `seconds` as in `Job.forecast`."""
        torch.set_num_threads(1 if self.parallel else AVAILABLE)
        each = [job.forecast(seconds) for job in self.missing()]
        self.seconds = max(sum(each) / AVAILABLE, max(each, default=0.0)) if self.parallel else sum(each)

    def __str__(self) -> str:
        """Returns how much is missing, and of what."""
        left = len(self.missing())
        time = f"about {duration(self.seconds)}" if left else "complete"
        return f"{self.sweep:<12} {f'{left} of {len(self.jobs)}':>8} runs  {time:<18} {self.title}"


def read_sweep(name: str, quick: bool, overrides: Sequence[str]) -> Iterator[Part | str]:
    """Yields the parts of a sweep in the order of its file, then the commands of `python -m` that follow them.

    Args:
        name: of the file in conf/sweeps, or the path of another one, without .yaml. It has lists of command lines of run.py under
            `parallel` and `one_by_one`; a mapping in a list stands for several, from what they share to what they add. `then` are the
            commands, `sweeps` other sweeps that come first.
        quick: take what is under `quick` instead, where the file has it.
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
        for entry in entries if mode in ("parallel", "one_by_one") else []:
            shared, added = next(iter(entry.items())) if isinstance(entry, dict) else (entry, [""])
            lines = [line for more in added for line in expand([*shared.split(), *more.split(), *overrides])]
            yield Part(name, shared, lines, mode == "parallel")
    yield from sweep.get("then", [])


def launch(jobs: Sequence[Job], by_shard: bool, arguments: Sequence[str], deadline: float) -> None:
    """Runs run.py for the jobs and waits for it.

    Args:
        jobs: training runs and measured properties, which have different configurations and thus processes.
        by_shard: whether every shard of a run is launched by itself.
        arguments: further arguments of run.py.
        deadline: the time.monotonic at which it is interrupted.

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
    """Reads the command line, then forecasts, trains and draws."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("arguments", nargs="+", help="sweeps, and overrides for every run")
    parser.add_argument("--scale", choices=["full", "quick"], default="full", help="quick: a smoke test with fewer images and epochs")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many minutes")
    parser.add_argument("--forecast", action="store_true", help="train nothing")
    options = parser.parse_intermixed_args()
    names = [argument for argument in options.arguments if "=" not in argument]
    hydra = [argument for argument in options.arguments if argument.lstrip("+~").startswith("hydra")]
    overrides = [argument for argument in options.arguments if argument not in (*names, *hydra)]
    local = not any(argument.startswith("hydra/launcher=") for argument in hydra)
    deadline, failed = time.monotonic() + options.minutes * 60, []
    with one_sentence_errors():
        steps = [step for name in names for step in read_sweep(name, options.scale == "quick", overrides)]
        parts = [step for step in steps if isinstance(step, Part)]
        seconds: dict[tuple, float] = {}
        with initialize_config_dir(version_base="1.3", config_dir=str(PROJECT / "conf")):
            for part in parts:
                part.forecast(seconds)
                print(part, flush=True)
        print(f"In all about {duration(sum(part.seconds for part in parts))} of training on this machine.", flush=True)
        if options.forecast:
            return
        if not local:  # everything at once
            jobs = Part(" ".join(names), " ".join(hydra), [], True, sum(part.seconds for part in parts))
            jobs.jobs = [job for part in parts for job in part.jobs]
            steps = [jobs, *(step for step in steps if isinstance(step, str))]
        for step in steps:
            if isinstance(step, str):
                command = step.format(results=parts[0].jobs[0].config["results"])
                if subprocess.run((sys.executable, "-m", *command.split()), cwd=PROJECT).returncode:
                    failed.append(f"python -m {command}")
            elif missing := step.missing():
                print(f"\n{step}", flush=True)
                one_by_one = ["hydra.launcher.n_jobs=1"] if local and not step.parallel else []
                try:
                    launch(missing, not local, [*one_by_one, *hydra], deadline)
                    if not local:  # a shared folder may have shown the last shards each other's checkpoints too late
                        trained = [job for job in step.missing() if job.config_name == "config" and not job.epochs_left()]
                        launch(trained, False, [], deadline)
                except subprocess.TimeoutExpired:
                    sys.exit(f"--minutes={options.minutes:g} are over: run the command again to resume")
        failed += [f"python run.py {' '.join(job.overrides)}" for part in parts for job in part.missing()]
        if failed:
            sys.exit("\n".join(["error: these failed, run the command again for them:", *failed]))


if __name__ == "__main__":
    main()
