"""What v_t is an average of, and how far it is from the second moment of the gradient (section 3, equations 1 to 4).

From v_0 = 0 the recursion gives

    v_t = (1 - beta2) sum_i beta2^(t - i) g_i^2                                     (1)
    E[v_t] = E[g_t^2] (1 - beta2^t) + zeta,                                         (4)

with zeta = 0 where E[g_i^2] is the same for all i. Where it drifts, zeta is the decaying average of what it was, minus what it is now:

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
    """(1 - beta2) sum_i beta2^(t - i) g_i^2 for each t (equation 1), from squares of shape [steps, ...]; each sum anew."""
    steps = len(squares)
    ages = torch.arange(steps).unsqueeze(1) - torch.arange(steps)
    weights = torch.where(ages >= 0, (1 - beta2) * beta2 ** ages.clamp(min=0).double(), 0.0)
    return (weights @ squares.flatten(1)).view_as(squares)


def measure(seeds: Sequence[int], steps: int, draws: int, beta2: float, drifts: Sequence[float]) -> pd.DataFrame:
    """v_t of Adam for gradients N(0, sigma_t^2), sigma_t^2 = exp(drift t).

    Args:
        seeds: of the gradients.
        steps: of the optimizer.
        draws: independent gradients at each step.
        beta2: decay rate of v.
        drifts: per step, of the logarithm of E[g_t^2].

    Returns:
        `seed`, `drift`, `t`; means over draws, divided by E[g_t^2], of v_t (`v`) and of vhat_t = v_t / (1 - beta2^t) (`vhat`);
        what equation 4 expects of v, with zeta (`expected`) and without (`without_zeta`); and `recursion_error`, the largest
        relative difference between v_t and the closed sum.
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
