"""Trains one optimizer on one of the paper's experiments and writes the costs as CSV: see `python run.py --help`."""

import experiments.process  # isort: skip  # before torch

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import cast

import hydra
import pandas as pd
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from data.loading import check_options, load
from data.types import Dataset
from experiments.config import (
    Population,
    check_memory,
    choose_device,
    optimizer_name,
    resolve,
    shards,
    train_arguments,
)
from experiments.errors import ConfigError, job_errors, one_sentence_errors
from experiments.models import products
from experiments.progress import announce, diverged_members, summary
from experiments.provenance import merge_sessions, session
from experiments.records import PROJECT, Run
from experiments.schema import Rule, check
from experiments.training.checkpoints import Checkpoint
from experiments.training.loop import seconds_per_pass, train
from experiments.training.threads import AVAILABLE, Threads


@hydra.main(version_base="1.3", config_path=str(PROJECT / "conf"), config_name="config")
def main(cfg: DictConfig) -> None:
    """Hydra's entry: composes the configuration, then runs it."""
    with job_errors() if HydraConfig.get().mode is RunMode.MULTIRUN else one_sentence_errors():
        if "property" in cfg:
            measure_property(cfg)
        else:
            run(cfg)


def run(cfg: DictConfig) -> None:
    """One run, from configuration to CSV."""
    experiments.process.prepare_process()
    config = resolve(cfg, HydraConfig.get().overrides.task)
    check_options(**config["data"])
    device = choose_device(config["device"], config["precision"])
    config["device"] = device.type
    population = Population.of(config)
    labels = {"experiment": config["experiment"], "settings": config["settings"], "optimizer": optimizer_name(config)}
    runs = Run.on_both_data(config, HydraConfig.get().overrides.task, **labels)
    if is_done(runs["standin" if config["data"]["source"] == "standin" else "real"], config["force"]):
        return  # without loading the data
    dataset = load(**config["data"], device=device)
    record = runs[dataset.source]
    if is_done(record, config["force"]):
        return
    everything = range(len(shards(config)))
    if config["part"] is not None:
        check("part", config["part"], Rule(lambda part: part in everything, f"null or a whole number below {len(everything)}"))
        train_members(config, dataset, device, record, [config["part"]])
        if left := [part for part in everything if Checkpoint.of(record, part).passes() < config["passes"]]:
            print(f"{record}: part {config['part']} is trained, {len(left)} of {len(everything)} are not")
            return
    table, seconds, sessions = train_members(config, dataset, device, record, everything)
    facts = {
        "hyperparameters": population.columns(),
        "diverged_members": diverged_members(table),
        "training_seconds": round(seconds[-1], 4),
        "seconds_after_pass": [round(value, 4) for value in seconds],
        "sessions": merge_sessions(sessions),
        "data_md5": dataset.checksums,
    }
    record.write(population.describe(table), facts)
    print(f"{summary(table, seconds[-1])}\nwrote {record}")


def is_done(record: Run, force: bool) -> bool:
    """Returns whether there is nothing to train, and says so."""
    if force or not record.is_complete():
        return False
    print(f"{record} is complete (force=true trains again)")
    return True


def measure_property(cfg: DictConfig) -> None:
    """Measures a claim that the paper makes without a figure, from configuration to CSV."""
    config = cast(dict, OmegaConf.to_container(cfg, resolve=True))
    for key in ("seeds", "threads", "results", "force"):
        check(key, config[key])
    device = choose_device("cpu")
    if config["threads"] != "auto":
        torch.set_num_threads(min(config["threads"], AVAILABLE))
    name = HydraConfig.get().runtime.choices["property"]
    runs = Run.on_both_data(config, HydraConfig.get().overrides.task, measured=name)
    if any(is_done(record, config["force"]) for record in runs.values()):
        return
    origin, start = session(device), time.perf_counter()
    table = hydra.utils.call(config["property"], seeds=config["seeds"], _convert_="all")
    seconds = round(time.perf_counter() - start, 2)
    source = "standin" if "data" in table and (table["data"] == "standin").any() else "real"
    runs[source].write(table, {"training_seconds": seconds, "sessions": [origin]})
    print(f"{name}: {seconds} s\nwrote {runs[source]}")


def train_members(
    config: dict, dataset: Dataset, device: torch.device, record: Run, numbers: Sequence[int]
) -> tuple[pd.DataFrame, list[float], list[dict]]:
    """Trains the shards of members with these numbers, one after another; returns what `train` does, and the sessions that it took."""
    name = f"{config['experiment']} {optimizer_name(config)}"
    passes, parts = config["passes"], [shards(config)[number] for number in numbers]

    first_job = train_arguments(config, parts[0], dataset, device)
    check_memory(first_job[0], parts[0].members, device)
    begun = Checkpoint.of(record, numbers[0]).load(lazily=True)  # its products go on, whichever would be chosen now
    products.use(begun["products"] if begun else config["products"])
    with first_steps(optimizer_name(config)):
        threads = Threads(config["threads"] if device.type == "cpu" else AVAILABLE, lambda: seconds_per_pass(*first_job))
    print(f"{name}: threads={torch.get_num_threads()} of {AVAILABLE}, products={products.library()}", flush=True)
    origin = session(device)
    checkpoints = [Checkpoint.of(record, number, origin) for number in numbers]
    total, done = passes * len(parts), sum(checkpoint.passes() for checkpoint in checkpoints)
    announce(name, sum(part.members for part in parts), passes, done / total, (total - done) * threads.seconds)
    tables, seconds, first = [], [0.0] * passes, 0
    position = HydraConfig.get().job.get("num", 0) % 2  # type: ignore[attr-defined]  # a DictConfig at run time
    with tqdm(total=total, initial=done, desc=name, unit="pass", position=position, disable=None) as bar:
        for part, checkpoint in zip(parts, checkpoints, strict=True):
            table, spent = train(*train_arguments(config, part, dataset, device), bar, checkpoint, threads)
            tables.append(table.assign(member=table["member"] + first))
            first += part.members
            seconds = [before + more for before, more in zip(seconds, spent, strict=True)]
    return pd.concat(tables, ignore_index=True), seconds, [origin for checkpoint in checkpoints for origin in checkpoint.origins]


@contextlib.contextmanager
def first_steps(optimizer: str) -> Iterator[None]:
    """Turns an optimizer's refusal to take a step, such as that of torch.optim.SparseAdam, into a ConfigError."""
    try:
        yield
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        raise ConfigError(f"optimizer {optimizer} cannot train this model: {' '.join(str(error).split())}") from error


def as_spelled(arguments: Sequence[str]) -> list[str]:
    """Returns the command line with choices spelled as their files in conf/: optimizer=Adam,SGDNesterov as optimizer=adam,sgd_nesterov."""
    spelled = []
    for argument in arguments:
        group, equals, choices = argument.partition("=")
        files = {path.stem.replace("_", ""): path.stem for path in (PROJECT / "conf" / group).glob("*.yaml")} if equals and group else {}
        plain = [choice.lower().replace("_", "") for choice in choices.split(",")]
        spelled.append(f"{group}={','.join(files[choice] for choice in plain)}" if files and files.keys() >= set(plain) else argument)
    return spelled


def cli() -> None:
    """The program: one sentence for a mistake."""
    with one_sentence_errors():
        sys.argv[1:] = as_spelled(sys.argv[1:])
        main()


if __name__ == "__main__":
    cli()
