"""From Adam to AdaMax: the p-norm of past gradients in place of the 2-norm (section 7.1, equations 6 to 12).

    v_t = beta2^p v_(t-1) + (1 - beta2^p) |g_t|^p,    u_t = v_t^(1 / p) -> max(beta2 u_(t-1), |g_t|)    as p -> infinity.

The paper says that large p are numerically unstable, because powers overflow or underflow, while the limit is stable.
"""

from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch

import optim
from experiments.properties.trajectories import follow, last, quadratic

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def measure(seeds: Sequence[int], steps: int, dimensions: int, alpha: float, norms: Sequence[float]) -> pd.DataFrame:
    """Measures how far Adam with a p-norm ends from AdaMax, on quadratics with noisy gradients of different scales.

    Args:
        seeds: of the problem and the noise.
        steps: of each optimizer.
        dimensions: coordinates of theta; their gradients scale from 1e-3 to 1e3.
        alpha: learning rate.
        norms: values of p.

    Returns:
        `seed`, `dtype`, `p`; `distance` between the end points of Adam and of AdaMax in float64, relative to AdaMax's distance from start
        to end; and `lost`, the share of coordinates whose v is 0 or whose v or theta is not finite.
    """
    tables = []
    p = torch.tensor(norms, dtype=torch.float64)
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        target = torch.rand(dimensions, generator=generator, dtype=torch.float64)
        scale = torch.logspace(-3, 3, dimensions, dtype=torch.float64)
        shift = 0.1 * torch.randn(steps, dimensions, generator=generator, dtype=torch.float64) - target
        limit = last(follow(partial(optim.AdaMax, lr=alpha), torch.zeros_like(target), quadratic(scale, shift), steps))
        for name, dtype in _DTYPES.items():
            gradient = quadratic(scale.to(dtype), shift.to(dtype))
            start = torch.zeros(len(norms), dimensions, dtype=dtype)
            *_, (_, theta, optimizer) = follow(partial(optim.LpAdam, lr=alpha, p=p), start, gradient, steps)
            v = next(iter(optimizer.state.values()))["exp_avg_pow"]
            lost = (~(theta.isfinite() & v.isfinite() & (v > 0))).double().mean(1)
            distance = (theta.double() - limit).norm(dim=1) / limit.norm()
            columns = {"p": norms, "distance": distance.tolist(), "lost": lost.tolist()}
            tables.append(pd.DataFrame({"seed": seed, "dtype": name} | columns))
    return pd.concat(tables, ignore_index=True)
