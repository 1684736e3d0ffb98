"""Adam's relation to AdaGrad and RMSProp (section 5).

AdaGrad is the limit of Adam for beta1 = 0, beta2 -> 1 and alpha_t = alpha / sqrt(t): vhat_t -> (g_1^2 + ... + g_t^2) / t, and

    alpha_t g_t / sqrt(vhat_t) -> alpha g_t / sqrt(g_1^2 + ... + g_t^2).

Without bias correction v_t -> 0, and steps grow without bound. RMSProp with momentum averages rescaled gradients; Adam rescales averaged
gradients. Without bias correction Adam is RMSProp on averaged gradients, and with beta1 = 0 RMSProp itself.
"""

from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch
from torch import Tensor

import optim
from experiments.properties.trajectories import follow, quadratic


class AveragedRMSProp(torch.optim.Optimizer):
    """RMSProp on averaged gradients; written independently of optim/, as a reference for Adam.

    Args:
        params: tensors with a leading axis of members.
        lr: learning rate.
        rho: decay rate of the squared gradients, shape [members].
        average: decay rate of the gradients.
    """

    def __init__(self, params, lr: float, rho: Tensor, average: float):
        super().__init__(params, dict(lr=lr, rho=rho.unsqueeze(1), average=average))

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # without a closure
        """Takes a step."""
        for group in self.param_groups:
            for theta in group["params"]:
                state, rho, average = self.state[theta], group["rho"], group["average"]
                state["gradient"] = average * state.get("gradient", 0) + (1 - average) * theta.grad
                state["square"] = rho * state.get("square", 0) + (1 - rho) * theta.grad**2
                theta -= group["lr"] * state["gradient"] / state["square"].sqrt()


def measure(seeds: Sequence[int], steps: int, dimensions: int, alpha: float, one_minus_beta2: Sequence[float]) -> pd.DataFrame:
    """Measures how far Adam's path is from those of its relatives, on quadratics with noisy gradients.

    Args:
        seeds: of the problem and the noise.
        steps: of each optimizer.
        dimensions: coordinates of theta.
        alpha: learning rate.
        one_minus_beta2: values of 1 - beta2.

    Returns:
        `seed`, `relative`, `bias_correction`, `one_minus_beta2`, and `distance`: the largest distance between the two paths over the
        steps, relative to the relative's distance from start to end.
    """
    beta2 = 1 - torch.tensor(one_minus_beta2, dtype=torch.float64)
    tables = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        curvature, target = (torch.rand(dimensions, generator=generator, dtype=torch.float64) for _ in range(2))
        noise = torch.randn(steps, dimensions, generator=generator, dtype=torch.float64)
        gradient = quadratic(curvature, 0.1 * noise - target)
        start = torch.zeros(len(one_minus_beta2), dtype=torch.float64).unsqueeze(1).repeat(1, dimensions)
        adam = partial(optim.Adam, lr=alpha, eps=0.0)
        for name, relative, decaying in (
            ("AdaGrad", partial(optim.AdaGrad, lr=alpha, eps=0.0), True),
            ("RMSProp", partial(optim.RMSProp, lr=alpha, rho=beta2, eps=0.0), False),
            ("RMSProp with averaged gradients", partial(AveragedRMSProp, lr=alpha, rho=beta2, average=0.9), False),
            ("RMSProp with momentum", partial(optim.RMSProp, lr=0.1 * alpha, rho=beta2, momentum=0.9, eps=0.0), False),
        ):
            theirs = torch.stack([theta.clone() for _, theta, _ in follow(relative, start, gradient, steps)])
            way = theirs[-1].norm(dim=1)
            for bias_correction in (True, False):
                beta1 = 0.9 if name.startswith("RMSProp with") else 0.0
                make = partial(adam, betas=(beta1, beta2), bias_correction=bias_correction)
                distance = torch.zeros(len(one_minus_beta2), dtype=torch.float64)
                for t, theta, _ in follow(make, start, gradient, steps, decaying):
                    distance = torch.maximum(distance, (theta - theirs[t - 1]).norm(dim=1))
                columns = {"one_minus_beta2": one_minus_beta2, "distance": (distance / way).tolist()}
                tables.append(pd.DataFrame({"seed": seed, "relative": name, "bias_correction": bias_correction} | columns))
    return pd.concat(tables, ignore_index=True)
