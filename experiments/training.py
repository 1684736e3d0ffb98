"""The one training loop: a population of models, trained side by side on data that stay on the device."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from data import Dataset, Split
from experiments.streams import generator, minibatches
from optim import InverseSqrt

SCHEDULES = ("constant", "inverse_sqrt_step", "inverse_sqrt_pass")
_EVALUATION_BATCH = 5_000


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        passes: passes over the training examples.
        batch_size: examples per minibatch.
        schedule: one of SCHEDULES.
        evaluate_every: costs are evaluated after every so many passes, and after the last.
    """

    passes: int
    batch_size: int
    schedule: str
    evaluate_every: int = 1

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule={self.schedule} is unknown: choose one of {', '.join(SCHEDULES)}")
        for name in ("passes", "batch_size", "evaluate_every"):
            if not (isinstance(value := getattr(self, name), int) and value > 0):
                raise ValueError(f"{name}={value} should be a whole number above 0")


def train(
    model,
    make_optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
    dataset: Dataset,
    seeds: Sequence[int],
    per_seed: int,
    plan: Plan,
    device: torch.device,
    bar: dict | None = None,
) -> tuple[pd.DataFrame, float]:
    """Trains len(seeds) * per_seed members at once; members of the same seed see the same minibatches and the same noise.

    Args:
        model: see `experiments.logistic_regression` for what a model has.
        make_optimizer: gets the parameters, each of shape [members, ...].
        dataset: on the device.
        seeds: one stream of data each.
        per_seed: members per seed; the members of the first seed come first.
        plan: how to train.
        device: where.
        bar: options of the progress bar.

    Returns:
        A table with a row for each pass and member (`member`, `pass`, `cost`, and after passes that are evaluated
        `train_cost`, `train_error`, `test_cost`, `test_error`, `penalty`), and the seconds spent on training, evaluation
        left out. Costs are means over examples: `cost` during the pass, each minibatch's before its step and with the
        noise on; the others after the pass with the noise off. What is minimised is the cost plus the penalty.
    """
    starts = [model.initial_parameters(generator(seed, "initial parameters")) for seed in seeds]
    parameters = {
        name: torch.stack([start[name] for start in starts]).repeat_interleave(per_seed, 0).to(device).requires_grad_()
        for name in starts[0]
    }
    optimizer = make_optimizer(list(parameters.values()))
    schedule = InverseSqrt(optimizer)
    order = [generator(seed, "order of data") for seed in seeds]
    noise = [generator(seed, "noise", device) for seed in seeds]
    rows, seconds = [], 0.0
    with tqdm(total=plan.passes, unit="pass", **{"disable": None, **(bar or {})}) as progress:
        for number in range(1, plan.passes + 1):
            start = time.perf_counter()
            cost = torch.zeros(len(seeds) * per_seed, device=device)
            for index in minibatches(len(dataset.train), plan.batch_size, order, device):
                cost += _step(model, parameters, optimizer, dataset.train, index, noise) * index.shape[1]
                if plan.schedule == "inverse_sqrt_step":
                    schedule.step()
            if plan.schedule == "inverse_sqrt_pass":
                schedule.step()
            cost = (cost / len(dataset.train)).tolist()  # waits for the device, once per pass
            seconds += time.perf_counter() - start
            measured = {}
            if number % plan.evaluate_every == 0 or number == plan.passes:
                measured = evaluate(model, parameters, dataset)
            rows += [
                {"member": member, "pass": number, "cost": cost[member]} | {name: values[member] for name, values in measured.items()}
                for member in range(len(cost))
            ]
            progress.set_postfix_str(f"cost {min(cost, key=lambda value: (value != value, value)):.4f}")
            progress.update()
    return pd.DataFrame(rows), seconds


def _step(model, parameters: dict[str, Tensor], optimizer, split: Split, index: Tensor, noise: list[torch.Generator]) -> Tensor:
    """One step on one minibatch; returns the members' costs before it, [members]."""
    costs = model.losses(parameters, split.inputs.take(index), split.targets[index], noise).mean(1)
    for parameter in parameters.values():  # what optimizer.zero_grad() does, without its 20 microseconds of profiling hooks
        parameter.grad = None
    (costs + model.penalty(parameters)).sum().backward()  # members are independent: each gets the gradient of its own
    optimizer.step()
    return costs.detach()


@torch.no_grad()
def evaluate(model, parameters: dict[str, Tensor], dataset: Dataset) -> dict[str, list[float]]:
    """Means over all training and all test examples with the noise off, and the penalty; for each member."""
    means = {}
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        sums: dict[str, Tensor] = {}
        for index in torch.arange(len(split), device=split.targets.device).split(_EVALUATION_BATCH):
            index = index.unsqueeze(0)  # one stream, shared by all members
            for name, values in model.measures(parameters, split.inputs.take(index), split.targets[index]).items():
                sums[name] = sums.get(name, 0) + values.sum(1, dtype=torch.float64)
        means |= {f"{part}_{name}": total / len(split) for name, total in sums.items()}
    means["penalty"] = model.penalty(parameters)
    return {name: values.tolist() for name, values in means.items()}
