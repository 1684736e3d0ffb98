"""Steps shrink near an optimum without a schedule (section 2.1).

The step is alpha mhat_t / sqrt(vhat_t), a signal-to-noise ratio times alpha. Near an optimum gradients are mostly noise of changing sign:
mhat nearly cancels, and the ratio tends to 0. Far from it gradients agree, and the ratio is near 1 in size.
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

_NO_EPS = 1e-30  # negligible beside any gradient here, but avoids 0 / 0 for pixels that are always 0
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def ratios(optimizer: torch.optim.Optimizer, parameters: dict[str, Tensor]) -> Tensor:
    """Returns |mhat_t| / sqrt(vhat_t) after a step, shape [members, coordinates]; NaN where all gradients were 0."""
    group, found = optimizer.param_groups[0], []
    beta1, beta2 = group["betas"]
    for parameter in parameters.values():
        state = optimizer.state[parameter]
        mhat, vhat = state["exp_avg"] / (1 - beta1 ** state["step"]), state["exp_avg_sq"] / (1 - beta2 ** state["step"])
        found.append((mhat.abs() / vhat.sqrt()).flatten(1))
    return torch.cat(found, 1)


def measure(
    seeds: Sequence[int], epochs: int, batch_size: int, lr: float, l2: float, far: float, snapshots: int, examples: int | None
) -> pd.DataFrame:
    """Measures the distribution of |mhat| / sqrt(vhat) over the coordinates, during logistic regression on MNIST.

    Args:
        seeds: of the order of the data, and of the initial weights of the `far` runs.
        epochs: number of epochs.
        batch_size: images per minibatch.
        lr: alpha.
        l2: weight of the penalty, which makes the optimum unique.
        far: standard deviation of initial weights far from the optimum; the other runs start at 0.
        snapshots: number of logarithmically spaced steps, from step 10, at which to measure.
        examples: number of training images; None: all.

    Returns:
        `seed`, `data`, `start` (`zero` or `far`), `t`, `cost` over all training images with the penalty, and `q10` to `q90`, quantiles of
        |mhat| / sqrt(vhat), which is the step of a coordinate over alpha.
    """
    dataset = load("mnist", examples=examples)
    steps = epochs * math.ceil(len(dataset.train) / batch_size)
    at = {round(value) for value in torch.logspace(1, math.log10(steps), snapshots).tolist()} | {steps}
    lines = []
    for start, deviation in (("zero", 0.0), ("far", far)):
        model = LogisticRegression(dataset.train.inputs.shape[1], dataset.classes, l2=l2, initial_std=deviation)
        for t, parameters, optimizer in learn(model, partial(optim.Adam, lr=lr, eps=_NO_EPS), dataset, seeds, epochs, batch_size):
            if t not in at:
                continue
            spread = torch.nanquantile(ratios(optimizer, parameters), torch.tensor(QUANTILES), dim=1)
            costs = evaluate(model, parameters, dataset)
            for member, seed in enumerate(seeds):
                line = {"seed": seed, "data": dataset.source, "start": start, "t": t}
                line["cost"] = costs["train_cost"][member] + costs["penalty"][member]
                lines.append(line | {f"q{round(100 * q)}": value.item() for q, value in zip(QUANTILES, spread[:, member], strict=True)})
    return pd.DataFrame(lines)
