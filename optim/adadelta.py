"""AdaDelta (Zeiler 2012)."""

from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .optimizer import Formula, RuleOptimizer
from .options import Hyperparameter, Options
from .roots import sqrt


def adadelta(theta, g, v, d, t, alpha, rho, eps) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (theta, v, d) after one step; v and d are moving averages of squared gradients and squared steps."""
    v = rho * v + (1 - rho) * (g * g)
    delta = sqrt(d + eps) / sqrt(v + eps) * g
    d = rho * d + (1 - rho) * (delta * delta)
    theta = theta - alpha * delta
    return theta, v, d


class AdaDelta(RuleOptimizer):
    """AdaDelta, whose steps have the units of the parameters; lr = 1 is the published algorithm.

    Args:
        params: parameters, or groups of them, as for any torch optimizer.
        lr: factor of the step.
        rho: decay rate of both averages, in [0, 1).
        eps: added under both roots; sets the length of the first steps.
        weight_decay: adds weight_decay theta to the gradient; see `Options` for decoupled decay.
        options: see `Options`.

    State per parameter: `square_avg` (v), `acc_delta` (d), `step` (t). The trajectory is torch.optim.Adadelta's up to rounding.
    """

    torch_twin: ClassVar = torch.optim.Adadelta

    def __init__(
        self,
        params: ParamsT,
        lr: Hyperparameter = 1.0,
        rho: Hyperparameter = 0.95,
        eps: Hyperparameter = 1e-6,
        *,
        weight_decay: Hyperparameter = 0.0,
        **options: Unpack[Options],
    ):
        super().__init__(params, dict(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay), options)

    def formula(self, settings: dict) -> Formula:
        """Returns the rule above."""
        hyperparameters = {"alpha": settings["lr"], "rho": settings["rho"], "eps": settings["eps"]}
        return Formula(adadelta, ("square_avg", "acc_delta"), hyperparameters)
