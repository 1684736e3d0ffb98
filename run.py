"""Trains one optimizer on one of the paper's experiments and writes its costs to a CSV; see `python run.py --help`."""

import experiments.process  # isort: skip  # before torch

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from data.loading import check_options, load
from data.types import Dataset
from experiments import provenance
from experiments.config import (
    Population,
    choose_device,
    optimizer_name,
    resolve,
    shards,
)
from experiments.errors import job_errors, one_sentence_errors
from experiments.locks import exclusive, remove_abandoned
from experiments.progress import diverged_members, summary
from experiments.records import PROJECT, Run
from experiments.schema import Rule, check, validate_property
from experiments.training.checkpoints import Checkpoint
from experiments.training.members import train_members
from experiments.training.threads import AVAILABLE


@hydra.main(version_base="1.3", config_path=str(PROJECT / "conf"), config_name="config")
def main(cfg: DictConfig) -> Path | None:
    """Runs the configuration that Hydra composed; returns the CSV, for the table that ends a sweep."""
    provenance.code()  # now: what changes later is not the code that runs
    with job_errors() if HydraConfig.get().mode is RunMode.MULTIRUN else one_sentence_errors():
        return run(cfg) if "experiment" in cfg else measure_property(cfg)


def run(cfg: DictConfig) -> Path | None:
    """Trains one run, from configuration to CSV; returns the CSV, or None while other jobs have shards to train."""
    experiments.process.prepare_process()
    config = resolve(cfg, HydraConfig.get().overrides.task)
    check_options(**config["data"])
    device = choose_device(config["device"], config["precision"])
    config["device"] = device.type
    population = Population.of(config)
    labels = {"experiment": config["experiment"], "settings": config["settings"], "optimizer": optimizer_name(config)}
    runs = Run.on_both_data(config, HydraConfig.get().overrides.task, **labels)
    remove_abandoned(PROJECT / config["results"])
    record = runs["standin" if config["data"]["source"] == "standin" else "real"]
    if is_done(record, config["force"]):
        return record.csv  # without loading the data
    dataset = load(**config["data"], device=device)
    record = runs[dataset.source]
    everything = range(len(shards(config)))
    if config["part"] is not None:
        check("part", config["part"], Rule(lambda part: part in everything, f"null or a whole number below {len(everything)}"))
        with exclusive(record.csv.with_name(f"{record.csv.stem},part={config['part']}.csv")):
            if is_done(record, config["force"]):
                return record.csv
            train_members(config, dataset, device, record, [config["part"]])
        if left := [part for part in everything if Checkpoint.of(record, part).epochs() < config["epochs"]]:
            print(f"{record}: part {config['part']} is trained, {len(left)} of {len(everything)} are not")
            return None
    with exclusive(record.csv):
        if not is_done(record, config["force"]):  # another process may have finished it while this one waited for the lock
            train_and_record(config, population, dataset, device, record)
    return record.csv


def train_and_record(config: dict, population: Population, dataset: Dataset, device: torch.device, record: Run) -> None:
    """Trains all members and writes the run's CSV and JSON."""
    table, seconds, sessions = train_members(config, dataset, device, record, range(len(shards(config))))
    facts = {
        "hyperparameters": population.columns(),
        "diverged_members": diverged_members(table),
        "training_seconds": round(seconds[-1], 4),
        "seconds_after_epoch": [round(value, 4) for value in seconds],
        "sessions": provenance.merge_sessions(sessions),
        "data_md5": dataset.checksums,
    }
    record.write(population.describe(table), facts)
    print(f"{summary(table, seconds[-1], dataset.classes)}\nwrote {record}")


def is_done(record: Run, force: bool) -> bool:
    """Returns whether the run is complete, and prints it; force=true always trains."""
    if force or not record.is_complete():
        return False
    print(f"{record} is complete (force=true trains again)")
    return True


def measure_property(cfg: DictConfig) -> Path:
    """Measures a property that the paper claims without a figure, from configuration to CSV; returns the CSV."""
    config = cast(dict, OmegaConf.to_container(cfg, resolve=True))
    validate_property(config)
    device = choose_device("cpu")
    if config["threads"] != "auto":
        torch.set_num_threads(min(config["threads"], AVAILABLE))
    name = HydraConfig.get().runtime.choices["property"]
    runs = Run.on_both_data(config, HydraConfig.get().overrides.task, measured=name)
    remove_abandoned(PROJECT / config["results"])
    with exclusive(runs["real"].csv):
        if is_done(runs["real"], config["force"]):  # one on stand-in data is measured again: the real ones may be there now
            return runs["real"].csv
        origin, start = provenance.session(device), time.perf_counter()
        table = hydra.utils.call(config["property"], seeds=config["seeds"], _convert_="all")
        seconds = round(time.perf_counter() - start, 2)
        source = "standin" if "data" in table and (table["data"] == "standin").any() else "real"
        with exclusive(runs[source].csv) if source == "standin" else contextlib.nullcontext():
            runs[source].write(table, {"training_seconds": seconds, "sessions": [origin]})
    print(f"{name}: {seconds} s\nwrote {runs[source]}")
    return runs[source].csv


def as_spelled(arguments: Sequence[str]) -> list[str]:
    """Returns the command line with choices spelled as the files in conf/: optimizer=SGDNesterov becomes optimizer=sgd_nesterov."""
    spelled = []
    for argument in arguments:
        group, equals, choices = argument.partition("=")
        files = {path.stem.replace("_", ""): path.stem for path in (PROJECT / "conf" / group).glob("*.yaml")} if equals and group else {}
        plain = [choice.lower().replace("_", "") for choice in choices.split(",")]
        spelled.append(f"{group}={','.join(files[choice] for choice in plain)}" if files and files.keys() >= set(plain) else argument)
    return spelled


def cli() -> None:
    """Runs the program; reports expected errors in one sentence."""
    with one_sentence_errors():
        if "--version" in sys.argv:  # for Hydra, its own
            print(provenance.version())
            return
        sys.argv[1:] = as_spelled(sys.argv[1:])
        main()


if __name__ == "__main__":
    cli()
