"""Bounds of a step |Delta_t| in units of alpha (sections 2.1 and 7.1).

For eps = 0 the paper bounds Adam's step by alpha (1 - beta1) / sqrt(1 - beta2) if 1 - beta1 > sqrt(1 - beta2), attained by a gradient
that was zero until the last step, and by alpha otherwise. It bounds AdaMax's step by alpha. The exact bound for Adam is, by the
Cauchy-Schwarz inequality,

    |m_t| / sqrt(v_t) <= (1 - beta1) / sqrt((1 - beta2) (1 - beta1^2 / beta2)),    beta1^2 < beta2,

attained as t -> infinity, where the bias corrections are 1, by gradients that grow by beta2 / beta1 per step. For AdaMax it is, by
|g_i| <= beta2^(i - t) u_t,

    |m_t| / u_t <= (1 - beta1) / (1 - beta1 / beta2),    beta1 < beta2,

attained by gradients that shrink by beta2 per step.
"""

import itertools
import math
from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch
from torch import Tensor

import optim
from experiments.properties.trajectories import follow, given

_NO_EPS = 1e-150  # negligible beside any gradient here; makes 0 / 0 before the first gradient 0


def paper_bound(optimizer: str, beta1: float, beta2: float) -> float:
    """Returns the paper's bound of |Delta_t| / alpha."""
    return max(1.0, (1 - beta1) / math.sqrt(1 - beta2)) if optimizer == "Adam" else 1.0


def exact_bound(optimizer: str, beta1: float, beta2: float) -> float:
    """Returns the least upper bound of |Delta_t| / alpha for t -> infinity; infinite if there is none."""
    if optimizer == "Adam":
        return (1 - beta1) / math.sqrt((1 - beta2) * (1 - beta1**2 / beta2)) if beta1**2 < beta2 else math.inf
    return (1 - beta1) / (1 - beta1 / beta2) if beta1 < beta2 else math.inf


def gradients(kind: str, steps: int, coordinates: int, beta1: float, beta2: float, generator: torch.Generator) -> Tensor:
    """Returns gradients of shape [steps, coordinates].

    Args:
        kind: `dense`, N(0, 1); `sparse`, N(0, 1) with probability 1/100, else 0; `single`, 0 until the last step; `growing`, by
            beta2 / beta1 per step; or `shrinking`, by beta2 per step.
        steps: of the optimizer.
        coordinates: independent where gradients are random.
        beta1, beta2: decay rates of the averages; beta1 above 0.
        generator: source of random gradients.
    """
    if kind in ("dense", "sparse"):
        normal = torch.randn(steps, coordinates, generator=generator, dtype=torch.float64)
        kept = torch.rand(steps, coordinates, generator=generator, dtype=torch.float64) < (1 if kind == "dense" else 0.01)
        return normal * kept
    back = torch.arange(steps - 1, -1, -1, dtype=torch.float64).unsqueeze(1)  # steps before the last
    profile = {
        "single": lambda: (back == 0).double(),
        "growing": lambda: (beta1 / beta2) ** back,
        "shrinking": lambda: beta2**-back,
    }[kind]()
    return profile.repeat(1, coordinates)


def measure(seeds: Sequence[int], steps: int, coordinates: int, betas: Sequence[Sequence[float]], kinds: Sequence[str]) -> pd.DataFrame:
    """Measures the largest step of each optimizer for each kind of gradients, with alpha = 1 and no eps.

    Args:
        seeds: of random gradients.
        steps: of each optimizer.
        coordinates: number of paths.
        betas: pairs (beta1, beta2).
        kinds: see `gradients`.

    Returns:
        `seed`, `optimizer`, `beta1`, `beta2`, `kind`, `paper_bound`, `exact_bound`, and `largest`, the largest |Delta_t| / alpha over
        steps and coordinates.
    """
    members = [((beta1, beta2), kind) for (beta1, beta2), kind in itertools.product(betas, kinds)]
    beta1, beta2 = (torch.tensor([pair[which] for pair, _ in members], dtype=torch.float64) for which in (0, 1))
    tables = []
    for seed in seeds:
        g = torch.stack([gradients(kind, steps, coordinates, *pair, torch.Generator().manual_seed(seed)) for pair, kind in members], 1)
        for optimizer, eps in ((optim.Adam, _NO_EPS), (optim.AdaMax, 0.0)):
            before = torch.zeros_like(g[0])
            largest = torch.zeros(len(members), dtype=torch.float64)
            for _, theta, _ in follow(partial(optimizer, lr=1.0, betas=(beta1, beta2), eps=eps), before, given(g), steps):
                largest = torch.maximum(largest, (theta - before).abs().amax(1))
                before = theta.clone()
            name = optimizer.__name__
            table = pd.DataFrame(
                {"seed": seed, "optimizer": name, "beta1": beta1.tolist(), "beta2": beta2.tolist(), "kind": [kind for _, kind in members]}
            )
            for bound, formula in (("paper_bound", paper_bound), ("exact_bound", exact_bound)):
                table[bound] = [formula(name, *pair) for pair, _ in members]
            tables.append(table.assign(largest=largest.tolist()))
    return pd.concat(tables, ignore_index=True)
