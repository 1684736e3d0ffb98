"""The training loop: trains all members of a population at once, on data that stay on the device."""

import math
import statistics
import time
from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from data.rows import SparseBatch
from data.types import Dataset, Split
from experiments.models.base import Model
from experiments.training.checkpoints import Checkpoint
from experiments.training.plan import Training
from experiments.training.second_moments import second_moments
from experiments.training.state import TrainState
from experiments.training.streams import example_order, generator
from experiments.training.threads import Threads
from optim import MinibatchChooser, chooses_minibatches

_FORECAST_STEPS, _FORECAST_SECONDS = 8, 0.05  # minima; only the second half of the steps counts: a GPU replays those


def train(
    training: Training, bar: tqdm | None = None, checkpoint: Checkpoint | None = None, threads: Threads | None = None
) -> tuple[pd.DataFrame, list[float]]:
    """Trains a population.

    Args:
        training: the population.
        bar: shows finished epochs and the lowest cost.
        checkpoint: state to resume from; saved after every epoch.
        threads: reviewed with the duration of every epoch.

    Returns:
        A table with a row per epoch and member, and the cumulative seconds of training after each epoch, without evaluation.
        The table has `member`, `epoch` (1, 2, ...), `cost`; after evaluated epochs `train_cost`, `train_error`, `test_cost`, `test_error`,
        `penalty`; and second moments if planned. Costs are means over examples: `cost` during the epoch, before each step, with noise
        on; the others after the epoch, with noise off. Costs of a diverged member are infinite or NaN.
    """
    state, model, plan = TrainState(training), training.model, training.plan
    if checkpoint:
        checkpoint.restore(state)
    bar = tqdm(disable=True) if bar is None else bar
    while state.epochs < plan.epochs:
        start = time.perf_counter() - (state.seconds[-1] if state.seconds else 0.0)
        cost = train_epoch(training, state) if state.alive else []
        state.seconds.append(time.perf_counter() - start)
        if threads and not state.depends_on_threads:
            threads.review(state.seconds[-1] - (state.seconds[-2] if state.epochs else 0.0))
        state.epochs += 1
        evaluated = state.epochs % plan.evaluate_every == 0 or state.epochs == plan.epochs
        measured = {}
        if evaluated and state.alive:
            with state.evaluation():
                measured = evaluate(model, state.parameters, training.dataset)
        if plan.second_moments and state.alive:
            measured |= second_moments(state.optimizer, state.parameters)
        state.record(cost, measured)
        if checkpoint:
            checkpoint.save(state.state_dict())
        bar.set_postfix_str(f"cost {min(cost, key=lambda value: (value != value, value), default=math.nan):.4g}", refresh=False)
        bar.update()
    return pd.DataFrame(state.rows), state.seconds


def seconds_per_epoch(training: Training) -> float:
    """Returns a forecast of the seconds of an epoch, from a few steps of a new population."""
    state = TrainState(training)
    optimizer, examples = state.optimizer, len(training.dataset.train)
    of_an_epoch = optimizer.minibatches if chooses_minibatches(optimizer) else math.ceil(examples / training.plan.batch_size)
    seconds, start = [], time.perf_counter()
    for cost, _ in steps(training, state):
        cost.tolist()  # waits for the device
        seconds.append(time.perf_counter() - start)
        if len(seconds) >= _FORECAST_STEPS and sum(seconds) > _FORECAST_SECONDS:
            break
        start = time.perf_counter()
    return statistics.fmean(seconds[len(seconds) // 2 :]) * of_an_epoch  # not the median: steps slowed by other programs count


def train_epoch(training: Training, state: TrainState) -> list[float]:
    """Trains one epoch; returns its mean cost for each member still in training."""
    total, examples, plan = torch.zeros(len(state.alive), device=state.device), 0, training.plan
    for cost, batch in steps(training, state):
        total.add_(cost, alpha=batch)
        examples += batch
        if state.schedule and plan.schedule == "inverse_sqrt_step":
            state.schedule.step()
    if state.schedule and plan.schedule.endswith("_epoch"):
        state.schedule.step()
    return (total / examples).tolist()  # waits for the device, once per epoch


def steps(training: Training, state: TrainState) -> Iterator[tuple[Tensor, int]]:
    """Takes the steps of one epoch; yields after each step the members' costs before it, [members], and the number of examples."""
    model, split, plan = training.model, training.dataset.train, training.plan
    if chooses_minibatches(state.optimizer):
        yield from _steps_of_a_sum_of_functions(model, state, state.optimizer, split)
        return

    def step(inputs: Tensor | SparseBatch, targets: Tensor) -> Tensor:
        cost = model.differentiate(state.parameters, inputs, targets, state.noise, state.autocast)
        state.optimizer.step()
        return cost

    order = example_order(len(split), state.order, state.device, plan.shuffle)
    if state.graphs:
        for index in order.split(plan.batch_size, 1):
            yield state.graphs.take(lambda index: step(*split.take(index)), index), index.shape[1]
    else:
        for inputs, targets in split.minibatches(order, plan.batch_size):
            yield step(inputs, targets), targets.shape[1]


def _steps_of_a_sum_of_functions(
    model: Model, state: TrainState, optimizer: MinibatchChooser, split: Split
) -> Iterator[tuple[Tensor, int]]:
    """Takes the steps of one epoch, as `steps`, with an optimizer that chooses among fixed minibatches, such as SFO."""
    order = torch.randperm(len(split), generator=generator(state.seeds[0], "order of data")).to(state.device)
    if optimizer.minibatches > len(split):
        raise ValueError(f"optimizer.minibatches={optimizer.minibatches} is invalid: expected at most {len(split)}, the number of examples")
    parts = order.tensor_split(optimizer.minibatches)
    for _ in parts:
        seen: list[tuple[Tensor, int]] = []

        def closure(i: int, seen: list[tuple[Tensor, int]] = seen) -> Tensor:
            cost = model.differentiate(state.parameters, *split.take(parts[i].unsqueeze(0)), state.noise, state.autocast)
            seen.append((cost, len(parts[i])))
            return (cost + model.penalty(state.parameters)).sum().detach()

        optimizer.step(closure)
        yield seen[0]


@torch.no_grad()
def evaluate(model: Model, parameters: dict[str, Tensor], dataset: Dataset) -> dict[str, list[float]]:
    """Returns each member's mean measures over all training and test examples, with noise off, and its penalty."""
    batch = max(1, model.evaluation_batch // len(next(iter(parameters.values()))))
    means: dict[str, Tensor] = {}
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        sums: dict[str, Tensor] = {}
        for index in torch.arange(len(split), device=split.targets.device).split(batch):
            for name, values in model.measures(parameters, *split.take(index.unsqueeze(0))).items():  # one stream for all members
                sums[name] = sums.get(name, 0) + values.sum(1, dtype=torch.float64)
        means |= {f"{part}_{name}": total / len(split) for name, total in sums.items()}
    means["penalty"] = model.penalty(parameters)
    return {name: values.tolist() for name, values in means.items()}
