"""The one training loop: a population of models, trained side by side on data that stay on the device."""

import math
import statistics
import time
from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from data.rows import SparseBatch
from data.types import Dataset, Split
from experiments.models.base import Model
from experiments.training.checkpoints import Checkpoint
from experiments.training.plan import Plan
from experiments.training.second_moments import second_moments
from experiments.training.state import MakeOptimizer, TrainState
from experiments.training.streams import example_order, generator
from experiments.training.threads import Threads
from optim import MinibatchChooser, chooses_minibatches

_EVALUATION_BATCH = 5_000  # examples, counted once for each member
_FORECAST_STEPS, _FORECAST_SECONDS = 7, 0.05  # at least; the second half of them counts: on a GPU they are replayed


def train(
    model: Model,
    make_optimizer: MakeOptimizer,
    dataset: Dataset,
    seeds: Sequence[int],
    per_seed: int,
    plan: Plan,
    device: torch.device,
    bar: tqdm | None = None,
    checkpoint: Checkpoint | None = None,
    threads: Threads | None = None,
) -> tuple[pd.DataFrame, list[float]]:
    """Trains len(seeds) * per_seed members at once; members of the same seed see the same minibatches and the same noise.

    Args:
        model: what is trained.
        make_optimizer: gets the parameters, each of shape [members, ...].
        dataset: on the device.
        seeds: one stream of data each.
        per_seed: members per seed; the members of the first seed come first.
        plan: how to train.
        device: where.
        bar: counts the passes that are trained and shows the lowest cost.
        checkpoint: where to go on from, and what to save after every pass.
        threads: hears how long every pass took.

    Returns:
        A table with a row for each pass and member (`member`, `pass`, `cost`, and after passes that are evaluated
        `train_cost`, `train_error`, `test_cost`, `test_error`, `penalty`; where the plan wants them, second moments), and the
        seconds of training until the end of each pass, evaluation left out. Costs are means over examples: `cost` during the
        pass, each minibatch's before its step and with the noise on; the others after the pass with the noise off. What is
        minimised is the cost plus the penalty. The costs of a member that has diverged are infinite or not a number.
    """
    state = TrainState(model, make_optimizer, seeds, per_seed, plan, device)
    if checkpoint:
        checkpoint.restore(state)
    bar = tqdm(disable=True) if bar is None else bar
    while state.passes < plan.passes:
        start = time.perf_counter() - (state.seconds[-1] if state.seconds else 0.0)
        cost = epoch(model, state, dataset.train, plan) if state.alive else []
        state.seconds.append(time.perf_counter() - start)
        if threads and not model.depends_on_threads:
            threads.review(state.seconds[-1] - (state.seconds[-2] if state.passes else 0.0))
        state.passes += 1
        evaluated = state.passes % plan.evaluate_every == 0 or state.passes == plan.passes
        measured = {}
        if evaluated and state.alive:
            with state.evaluation():
                measured = evaluate(model, state.parameters, dataset)
        if plan.second_moments and state.alive:
            measured |= second_moments(state.optimizer, state.parameters)
        state.record(cost, measured)
        if checkpoint:
            checkpoint.save(state.state_dict())
        bar.set_postfix_str(f"cost {min(cost, key=lambda value: (value != value, value), default=math.nan):.4f}")
        bar.update()
    return pd.DataFrame(state.rows), state.seconds


def seconds_per_pass(
    model: Model,
    make_optimizer: MakeOptimizer,
    dataset: Dataset,
    seeds: Sequence[int],
    per_seed: int,
    plan: Plan,
    device: torch.device,
) -> float:
    """How long a pass of these members will take, from a few steps of a copy that is thrown away; arguments as in `train`."""
    state = TrainState(model, make_optimizer, seeds, per_seed, plan, device)
    optimizer = state.optimizer
    of_a_pass = optimizer.minibatches if chooses_minibatches(optimizer) else math.ceil(len(dataset.train) / plan.batch_size)
    seconds, start = [], time.perf_counter()
    for cost, _ in steps(model, state, dataset.train, plan):
        cost.tolist()  # waits for the device
        seconds.append(time.perf_counter() - start)
        if len(seconds) >= _FORECAST_STEPS and sum(seconds) > _FORECAST_SECONDS:
            break
        start = time.perf_counter()
    return statistics.median(seconds[len(seconds) // 2 :]) * of_a_pass


def epoch(model: Model, state: TrainState, split: Split, plan: Plan) -> list[float]:
    """One pass over the training examples; returns the mean cost during it of each member that is still trained."""
    total, examples = torch.zeros(len(state.alive), device=state.device), 0
    for cost, batch in steps(model, state, split, plan):
        total.add_(cost, alpha=batch)
        examples += batch
        if state.schedule and plan.schedule == "inverse_sqrt_step":
            state.schedule.step()
    if state.schedule and plan.schedule.endswith("_pass"):
        state.schedule.step()
    return (total / examples).tolist()  # waits for the device, once per pass


def steps(model: Model, state: TrainState, split: Split, plan: Plan) -> Iterator[tuple[Tensor, int]]:
    """Takes the steps of one pass; yields after each the members' costs before it, [members], and the number of examples."""
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
    """As `steps`, for an optimizer that wants the same minibatches in every pass, and chooses the next one itself."""
    order = torch.randperm(len(split), generator=generator(state.seeds[0], "order of data")).to(state.device)
    if optimizer.minibatches > len(split):
        raise ValueError(f"optimizer.minibatches={optimizer.minibatches} should be at most {len(split)}, the number of examples")
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
    """Means over all training and all test examples with the noise off, and the penalty; for each member."""
    batch = max(1, _EVALUATION_BATCH // len(next(iter(parameters.values()))))
    means: dict[str, Tensor] = {}
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        sums: dict[str, Tensor] = {}
        for index in torch.arange(len(split), device=split.targets.device).split(batch):
            for name, values in model.measures(parameters, *split.take(index.unsqueeze(0))).items():  # a stream that all members share
                sums[name] = sums.get(name, 0) + values.sum(1, dtype=torch.float64)
        means |= {f"{part}_{name}": total / len(split) for name, total in sums.items()}
    means["penalty"] = model.penalty(parameters)
    return {name: values.tolist() for name, values in means.items()}
