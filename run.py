"""Trains one optimizer on one of the paper's experiments and writes the costs as CSV: see `python run.py --help`."""

import experiments.process  # isort: skip  # before torch

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import cast

import hydra
import pandas as pd
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from data.loading import check_options, load
from data.types import Dataset
from experiments.config import (
    Population,
    check_memory,
    choose_device,
    make_model,
    optimizer_class,
    optimizer_maker,
    optimizer_name,
    resolve,
)
from experiments.errors import ConfigError, one_sentence_errors
from experiments.locks import exclusive, remove_abandoned
from experiments.models import products
from experiments.models.base import Model
from experiments.progress import announce, diverged_members, summary
from experiments.provenance import merge_sessions, session
from experiments.records import MACHINE, PROJECT, Run
from experiments.schema import check
from experiments.training.checkpoints import Checkpoint
from experiments.training.loop import MakeOptimizer, seconds_per_pass, train
from experiments.training.plan import Plan
from experiments.training.threads import AVAILABLE, Threads
from optim import RuleOptimizer


@hydra.main(version_base="1.3", config_path=str(PROJECT / "conf"), config_name="config")
def main(cfg: DictConfig) -> None:
    """Hydra's entry: composes the configuration, then runs it."""
    with one_sentence_errors():
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
    plan = Plan(**{field.name: config[field.name] for field in fields(Plan)})
    labels = {"experiment": config["experiment"], "settings": config["settings"], "optimizer": optimizer_name(config)}
    runs = {source: Run.of(config, overrides(), data=source, **labels) for source in ("real", "standin")}
    remove_abandoned(PROJECT / config["results"])
    if is_done(runs["standin" if config["data"]["source"] == "standin" else "real"], config["force"]):
        return  # without loading the data
    dataset = load(**config["data"], device=device)
    record = runs[dataset.source]
    with exclusive(record.csv):
        if not is_done(record, config["force"]):  # by a process that this one has waited for
            train_and_record(config, population, dataset, plan, device, record)


def train_and_record(config: dict, population: Population, dataset: Dataset, plan: Plan, device: torch.device, record: Run) -> None:
    """Trains all members and writes the record."""
    table, seconds, sessions = train_members(config, population, dataset, plan, device, record)
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


def overrides() -> list[str]:
    """Returns what the command line changed besides the choices that label a run, and the machine."""
    known = ("experiment", "optimizer", "settings", "property", *MACHINE)
    return sorted(one for one in HydraConfig.get().overrides.task if one.lstrip("+~").partition("=")[0] not in known)


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
    runs = {source: Run.of(config, overrides(), measured=name, data=source) for source in ("real", "standin")}
    remove_abandoned(PROJECT / config["results"])
    with exclusive(runs["real"].csv):
        if any(is_done(run, config["force"]) for run in runs.values()):
            return
        origin, start = session(device), time.perf_counter()
        table = hydra.utils.call(config["property"], seeds=config["seeds"], _convert_="all")
        seconds = round(time.perf_counter() - start, 2)
        source = "standin" if "data" in table and (table["data"] == "standin").any() else "real"
        with exclusive(runs[source].csv) if source == "standin" else contextlib.nullcontext():
            runs[source].write(table, {"training_seconds": seconds, "sessions": [origin]})
    print(f"{name}: {seconds} s\nwrote {runs[source]}")


def train_members(
    config: dict, population: Population, dataset: Dataset, plan: Plan, device: torch.device, record: Run
) -> tuple[pd.DataFrame, list[float], list[dict]]:
    """Trains all members, as many at once as `shard` says, or one after another if the optimizer is not ours; see `train`.

    Also returns the code and the machine of every session that it took.
    """
    name = f"{config['experiment']} {optimizer_name(config)}"
    shards = population.shards(config["shard"] if issubclass(optimizer_class(config), RuleOptimizer) else 1)

    def job(part: Population) -> tuple[Model, MakeOptimizer, Dataset, Sequence[int], int, Plan, torch.device]:
        model = make_model(config, part, dataset.train.inputs.shape[1], dataset.classes, device)
        return model, optimizer_maker(config, part, device), dataset, part.seeds, len(part.settings), plan, device

    def checkpoint(shard: int, origin: dict) -> Checkpoint:
        return Checkpoint(record.checkpoint(shard), {**record.identity, **record.extent}, origin)

    check_memory(job(shards[0])[0], shards[0].members, device)
    begun = checkpoint(0, {}).load(lazily=True)  # its products go on, whichever would be chosen now
    products.use(begun.get("products") if begun else config["products"])
    with first_steps(optimizer_name(config)):
        threads = Threads(config["threads"] if device.type == "cpu" else AVAILABLE, lambda: seconds_per_pass(*job(shards[0])))
    print(f"{name}: threads={torch.get_num_threads()} of {AVAILABLE}, products={products.library()}", flush=True)
    origin = session(device)
    checkpoints = [checkpoint(number, origin) for number in range(len(shards))]
    total, done = plan.passes * len(shards), sum(checkpoint.passes() for checkpoint in checkpoints)
    announce(name, population.members, plan.passes, done / total, (total - done) * threads.seconds)
    tables, seconds, first = [], [0.0] * plan.passes, 0
    position = HydraConfig.get().job.get("num", 0) % 2  # type: ignore[attr-defined]  # a DictConfig at run time
    with tqdm(total=total, initial=done, desc=name, unit="pass", position=position, disable=None) as bar:
        for part, kept in zip(shards, checkpoints, strict=True):
            table, spent = train(*job(part), bar, kept, threads)
            tables.append(table.assign(member=table["member"] + first))
            first += part.members
            seconds = [before + more for before, more in zip(seconds, spent, strict=True)]
    return pd.concat(tables, ignore_index=True), seconds, [origin for kept in checkpoints for origin in kept.origins]


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
