"""Non-stationary objectives and sparse gradients, to which the paper says Adam is suited (sections 1 and 3).

1. A drifting target: f_t(theta) = |theta - theta*_t|^2 / 2 with noisy gradients, where theta*_t is a random walk. AdaGrad's steps keep
   shrinking; optimizers with decaying averages can follow at a constant learning rate.
2. Zipf features: linear regression in which feature k is nonzero with probability 1 / k, so that most gradients are 0 and rare features
   are learnt from few examples. Learning rates decay as alpha / sqrt(t), as in section 6.1; AdaGrad's does so by itself.

Every optimizer is measured on the same grid of learning rates.
"""

from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch
from torch import Tensor

import optim
from experiments.properties.trajectories import follow, last, quadratic
from experiments.training.plan import MakeOptimizer


def measure(
    seeds: Sequence[int], steps: int, dimensions: int, walk: float, noise: float, lrs: Sequence[float], rare: float
) -> pd.DataFrame:
    """Measures the errors of each optimizer at each learning rate.

    Args:
        seeds: of the problems.
        steps: of each optimizer.
        dimensions: coordinates of theta, or features.
        walk: standard deviation of the target's drift per step and coordinate.
        noise: standard deviation of the noise in the drifting target's gradients and in the regression's targets.
        lrs: learning rates.
        rare: features with a smaller probability are rare.

    Returns:
        `seed`, `problem`, `optimizer`, `lr`, `metric` and `error`. Problem `drifting`: the mean of (theta - theta*)^2 over coordinates and
        the `second tenth` or the `last tenth` of the steps. Problem `sparse`: sum_k p_k (theta_k - w_k)^2 / sum_k p_k w_k^2 after the last
        step, over `all features` or `rare features`.
    """
    alpha = torch.tensor(lrs, dtype=torch.float64)
    makers: dict[str, MakeOptimizer] = {
        "Adam": partial(optim.Adam, lr=alpha),
        "AdaMax": partial(optim.AdaMax, lr=alpha),
        "AdaGrad": partial(optim.AdaGrad, lr=alpha),
        "RMSProp": partial(optim.RMSProp, lr=alpha, rho=0.999),
        "SGDNesterov": partial(optim.SGDNesterov, lr=alpha),
    }
    start = torch.zeros(len(lrs), dimensions, dtype=torch.float64)
    presence = 1 / torch.arange(1, dimensions + 1, dtype=torch.float64)
    lines = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        normal = partial(torch.randn, generator=generator, dtype=torch.float64)
        targets = (walk * normal(steps, dimensions)).cumsum(0)
        disturbed = targets + noise * normal(steps, dimensions)
        words = (torch.rand(steps, dimensions, generator=generator, dtype=torch.float64) < presence).double()
        weights = normal(dimensions)
        answers = words @ weights + noise * normal(steps)
        for name, make in makers.items():
            path = follow(make, start, quadratic(1.0, -disturbed), steps)
            squares = torch.stack([(theta - target).square().mean(1) for (_, theta, _), target in zip(path, targets, strict=True)])
            tenth = steps // 10
            drifting = {"second tenth": squares[tenth : 2 * tenth].mean(0), "last tenth": squares[-tenth:].mean(0)}
            gradient = partial(_regression, words=words, answers=answers)
            theta = last(follow(make, start, gradient, steps, decaying=name != "AdaGrad"))
            masks = {"all features": presence, "rare features": presence * (presence < rare)}
            sparse = {key: ((theta - weights).square() * mask).sum(1) / (weights.square() * mask).sum() for key, mask in masks.items()}
            for problem, metrics in (("drifting", drifting), ("sparse", sparse)):
                for metric, errors in metrics.items():
                    shared = {"seed": seed, "problem": problem, "optimizer": name, "metric": metric}
                    lines += [shared | {"lr": lr, "error": error} for lr, error in zip(lrs, errors.tolist(), strict=True)]
    return pd.DataFrame(lines)


def _regression(theta: Tensor, t: int, words: Tensor, answers: Tensor) -> Tensor:
    return (theta @ words[t - 1] - answers[t - 1]).unsqueeze(1) * words[t - 1]
