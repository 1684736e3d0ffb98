"""Steps become small by themselves near an optimum (section 2.1).

The step is alpha mhat_t / sqrt(vhat_t), and the ratio is a signal-to-noise ratio: near an optimum gradients are mostly noise, their
signs change, mhat nearly cancels and the ratio goes to 0; far from it they agree and the ratio is near 1 in size.
"""

import math
from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch
from torch import Tensor

import optim
from data.loading import load
from experiments.models.logistic_regression import LogisticRegression
from experiments.properties.trajectories import learn
from experiments.training.loop import evaluate

_NO_EPS = 1e-30  # nothing beside any gradient here; weights of pixels that are always 0 stay where they are
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def ratios(optimizer: torch.optim.Optimizer, parameters: dict[str, Tensor]) -> Tensor:
    """|mhat_t| / sqrt(vhat_t) after a step, shape [members, coordinates]; not a number where all gradients were 0."""
    group, found = optimizer.param_groups[0], []
    beta1, beta2 = group["betas"]
    for parameter in parameters.values():
        state = optimizer.state[parameter]
        mhat, vhat = state["exp_avg"] / (1 - beta1 ** state["step"]), state["exp_avg_sq"] / (1 - beta2 ** state["step"])
        found.append((mhat.abs() / vhat.sqrt()).flatten(1))
    return torch.cat(found, 1)


def measure(
    seeds: Sequence[int], passes: int, batch_size: int, lr: float, l2: float, far: float, snapshots: int, examples: int | None
) -> pd.DataFrame:
    """The distribution of the ratio over the coordinates, during logistic regression on MNIST.

    Args:
        seeds: of the order of the data, and of initial weights far away.
        passes: over the training images.
        batch_size: images per minibatch.
        lr: alpha.
        l2: weight of the penalty, which gives the problem one optimum.
        far: standard deviation of initial weights far from it; the other runs start at 0.
        snapshots: how often the distribution is taken, at logarithmically spaced steps from 10 on.
        examples: the first so many images alone; None: all.

    Returns:
        `seed`, `data`, `start` (`zero` or `far`), `t`, `cost` over all training images with the penalty, and `q10` to `q90`, quantiles of
        |mhat| / sqrt(vhat); the step of a coordinate is alpha times that.
    """
    dataset = load("mnist", examples=examples)
    steps = passes * math.ceil(len(dataset.train) / batch_size)
    at = {round(value) for value in torch.logspace(1, math.log10(steps), snapshots).tolist()} | {steps}
    lines = []
    for start, deviation in (("zero", 0.0), ("far", far)):
        model = LogisticRegression(dataset.train.inputs.shape[1], dataset.classes, l2=l2, initial_std=deviation)
        for t, parameters, optimizer in learn(model, partial(optim.Adam, lr=lr, eps=_NO_EPS), dataset.train, seeds, passes, batch_size):
            if t not in at:
                continue
            spread = torch.nanquantile(ratios(optimizer, parameters), torch.tensor(QUANTILES), dim=1)
            costs = evaluate(model, parameters, dataset)
            for member, seed in enumerate(seeds):
                line = {"seed": seed, "data": dataset.source, "start": start, "t": t}
                line["cost"] = costs["train_cost"][member] + costs["penalty"][member]
                lines.append(line | {f"q{round(100 * q)}": value.item() for q, value in zip(QUANTILES, spread[:, member], strict=True)})
    return pd.DataFrame(lines)
