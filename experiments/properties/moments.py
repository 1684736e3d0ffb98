"""The bias of v_t as an estimate of the gradient's second moment (section 3, equations 1 to 4).

From v_0 = 0 the recursion gives

    v_t = (1 - beta2) sum_i beta2^(t - i) g_i^2                                     (1)
    E[v_t] = E[g_t^2] (1 - beta2^t) + zeta,                                         (4)

with zeta = 0 if E[g_i^2] is the same for all i. If it drifts, zeta is the decaying sum of its past differences from E[g_t^2]:

    zeta = (1 - beta2) sum_i beta2^(t - i) (E[g_i^2] - E[g_t^2]).
"""

from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch
from torch import Tensor

import optim
from experiments.properties.trajectories import follow, given


def closed_sum(squares: Tensor, beta2: float) -> Tensor:
    """Returns (1 - beta2) sum_i beta2^(t - i) g_i^2 for each t (equation 1), without recursion, from squares of shape [steps, ...]."""
    steps = len(squares)
    ages = torch.arange(steps).unsqueeze(1) - torch.arange(steps)
    weights = torch.where(ages >= 0, (1 - beta2) * beta2 ** ages.clamp(min=0).double(), 0.0)
    return (weights @ squares.flatten(1)).view_as(squares)


def measure(seeds: Sequence[int], steps: int, draws: int, beta2: float, drifts: Sequence[float]) -> pd.DataFrame:
    """Measures v_t of Adam for gradients N(0, sigma_t^2), sigma_t^2 = exp(drift t).

    Args:
        seeds: of the gradients.
        steps: of the optimizer.
        draws: independent gradients at each step.
        beta2: decay rate of v.
        drifts: changes of ln E[g_t^2] per step.

    Returns:
        `seed`, `drift`, `t`; relative to E[g_t^2], the means over draws of v_t (`v`) and vhat_t = v_t / (1 - beta2^t) (`vhat`), and
        equation 4's E[v_t] with zeta (`expected`) and without (`without_zeta`); and `recursion_error`, the largest relative difference
        between v_t and equation 1.
    """
    tables = []
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    for seed in seeds:
        normal = torch.randn(steps, draws, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for drift in drifts:
            second_moment = (drift * t).exp()
            g = normal * second_moment.sqrt().unsqueeze(1)
            make = partial(optim.Adam, betas=(0.9, beta2))
            v = torch.stack([
                next(iter(optimizer.state.values()))["exp_avg_sq"].clone()
                for _, _, optimizer in follow(make, torch.zeros(draws, dtype=torch.float64), given(g), steps)
            ])  # fmt: skip
            correction, mean = 1 - beta2**t, v.mean(1) / second_moment
            expected = closed_sum(second_moment.unsqueeze(1), beta2)[:, 0] / second_moment
            error = ((v - closed_sum(g * g, beta2)).abs() / v).amax(1)
            columns = {"v": mean, "vhat": mean / correction, "expected": expected, "without_zeta": correction, "recursion_error": error}
            table = pd.DataFrame({name: values.numpy() for name, values in columns.items()})
            tables.append(table.assign(seed=seed, drift=drift, t=t.long().numpy()))
    return pd.concat(tables, ignore_index=True)
