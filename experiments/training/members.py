"""Trains the members of a run, shard by shard."""

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd
import torch
from hydra.core.hydra_config import HydraConfig

from data.types import Dataset
from experiments.config import check_memory, make_training, optimizer_name, shards
from experiments.errors import ConfigError
from experiments.models import products
from experiments.progress import announce, progress_bar
from experiments.provenance import session
from experiments.records import Run
from experiments.training.checkpoints import Checkpoint
from experiments.training.loop import seconds_per_epoch, train
from experiments.training.state import TrainState
from experiments.training.threads import AVAILABLE, Threads


def train_members(
    config: dict, dataset: Dataset, device: torch.device, record: Run, numbers: Sequence[int]
) -> tuple[pd.DataFrame, list[float], list[dict]]:
    """Trains the shards `numbers` one after another; returns their joint table and seconds, as `train`, and their sessions."""
    every = shards(config)
    epochs, parts = config["epochs"], [every[number] for number in numbers]
    name = f"{config['experiment']} {optimizer_name(config)}" + (f" part={numbers[0]}" if len(parts) < len(every) else "")
    training = partial(make_training, config, dataset=dataset, device=device)
    check_memory(training(parts[0]).model, parts[0].members, device)
    begun = Checkpoint.of(record, numbers[0]).load(lazily=True)  # resume with its library and threads: same bits
    # A state without its library is damaged: `train` refuses it.
    products.use(begun.get("products", "torch") if begun else config["products"])
    wanted = config["threads"] if device.type == "cpu" else AVAILABLE
    if begun and TrainState(training(parts[0])).depends_on_threads:
        wanted = begun.get("threads", wanted)
    del begun  # it would keep the old checkpoint's file
    with first_steps(optimizer_name(config)):
        threads = Threads(wanted, lambda: seconds_per_epoch(training(parts[0])))
    print(f"{name}: threads={torch.get_num_threads()} of {AVAILABLE}, products={products.library()}", flush=True)
    origin = session(device)
    checkpoints = [Checkpoint.of(record, number, origin) for number in numbers]
    total, done = epochs * len(parts), sum(checkpoint.epochs() for checkpoint in checkpoints)
    announce(name, sum(part.members for part in parts), epochs, done / total, (total - done) * threads.seconds)
    tables, seconds, before = [], [0.0] * epochs, 0
    position = HydraConfig.get().job.get("num", 0) % 2  # type: ignore[attr-defined]  # a DictConfig at run time
    with progress_bar(name, total, done, position) as bar:
        for part, checkpoint in zip(parts, checkpoints, strict=True):
            table, spent = train(training(part), bar, checkpoint, threads)
            tables.append(table.assign(member=table["member"] + before))
            before += part.members
            seconds = [sum(pair) for pair in zip(seconds, spent, strict=True)]
    return pd.concat(tables, ignore_index=True), seconds, [origin for checkpoint in checkpoints for origin in checkpoint.origins]


@contextlib.contextmanager
def first_steps(optimizer: str) -> Iterator[None]:
    """Raises a ConfigError if an optimizer fails in its first steps, such as torch.optim.SparseAdam on dense gradients."""
    try:
        yield
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        raise ConfigError(f"optimizer {optimizer} cannot train this model: {' '.join(str(error).split())}") from error
