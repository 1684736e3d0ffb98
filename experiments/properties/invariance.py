"""Steps are invariant to diagonal rescaling of the gradients (abstract, section 2.1).

The problem is f(theta) = sum_i d_i (theta_i - a_i)^2 / 2 with noisy gradients g_i = d_i (theta_i - a_i + noise), whose d_i span
six orders of magnitude. Rescaled problems have gradients c_i g_i with c_i between 1 / c and c. In Algorithm 1 without eps

    m_i -> c_i m_i,    v_i -> c_i^2 v_i,    mhat_i / sqrt(vhat_i) -> the same,

so all paths are the same. With eps they differ, because it is added to c_i sqrt(vhat_i).
"""

from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch

import optim
from experiments.properties.trajectories import follow, last, quadratic
from experiments.training.plan import MakeOptimizer


def measure(seeds: Sequence[int], steps: int, dimensions: int, factors: Sequence[float], eps: Sequence[float]) -> pd.DataFrame:
    """Measures how far rescaled problems end from the original.

    Args:
        seeds: of the problem and the noise.
        steps: of each optimizer.
        dimensions: coordinates of theta.
        factors: values of c, one rescaled problem each.
        eps: values for Adam, AdaMax and AdaGrad.

    Returns:
        `seed`, `optimizer`, `eps`, `factor`, and `drift`: the distance between the rescaled and the original end point, relative to the
        original's distance from start to end.
    """
    tables = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        uniform = partial(torch.rand, dimensions, generator=generator, dtype=torch.float64)
        d, a, exponents = 10 ** (6 * uniform() - 3), 2 * uniform() - 1, 2 * uniform() - 1
        noise = torch.randn(steps, dimensions, generator=generator, dtype=torch.float64)
        c = torch.tensor([1.0, *factors], dtype=torch.float64).unsqueeze(1) ** exponents  # the first member is the original
        start = torch.zeros_like(c)
        makers: dict[tuple[str, float], MakeOptimizer] = {("SGDNesterov", 0.0): partial(optim.SGDNesterov, lr=0.1 / float(d.max()))}
        for value in eps:
            makers |= {
                ("Adam", value): partial(optim.Adam, lr=0.01, eps=value),
                ("AdaMax", value): partial(optim.AdaMax, lr=0.01, eps=value),
                ("AdaGrad", value): partial(optim.AdaGrad, lr=0.1, eps=value),
            }
        for (name, value), make in makers.items():
            end = last(follow(make, start, quadratic(c * d, noise - a), steps))
            drift = (end[1:] - end[0]).norm(dim=1) / end[0].norm()
            tables.append(pd.DataFrame({"seed": seed, "optimizer": name, "eps": value, "factor": factors, "drift": drift.tolist()}))
    return pd.concat(tables, ignore_index=True)
