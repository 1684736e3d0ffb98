"""RMSProp (Tieleman & Hinton 2012), with the momentum on the rescaled gradient that section 5 of the paper mentions."""

from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .optimizer import Formula, RuleOptimizer
from .options import Hyperparameter, Options
from .roots import sqrt


def rmsprop(theta, g, v, t, alpha, rho, eps) -> tuple[Tensor, Tensor]:
    """One step: v averages the squared gradient. Nothing is bias-corrected."""
    v = rho * v + (1 - rho) * (g * g)
    theta = theta - alpha * g / (sqrt(v) + eps)
    return theta, v


def rmsprop_with_momentum(theta, g, v, d, t, alpha, rho, momentum, eps) -> tuple[Tensor, Tensor, Tensor]:
    """The same with momentum: d gathers the rescaled gradient."""
    v = rho * v + (1 - rho) * (g * g)
    d = momentum * d + g / (sqrt(v) + eps)
    theta = theta - alpha * d
    return theta, v, d


class RMSProp(RuleOptimizer):
    """RMSProp, with momentum if wanted.

    Args:
        params: parameters, or groups of them, as for any torch optimizer.
        lr: the step size alpha.
        rho: decay rate of the average v of the squared gradient, in [0, 1); in groups and checkpoints it has torch's name, alpha.
        momentum: decay rate of the sum d of rescaled gradients, in [0, 1).
        eps: added to the root of v.
        weight_decay: times theta, added to the gradient; see `Options` for the decoupled one.
        options: see `Options`.

    State per parameter: v is `square_avg`, d `momentum_buffer` (with momentum, from 0 when that is switched on), the number of steps
    `step`. Follows the trajectory of torch.optim.RMSprop, not centered.
    """

    torch_twin: ClassVar = torch.optim.RMSprop
    constants: ClassVar = {"centered": False}
    optional_state: ClassVar = frozenset({"momentum_buffer"})

    def __init__(
        self,
        params: ParamsT,
        lr: Hyperparameter = 1e-3,
        rho: Hyperparameter = 0.9,
        momentum: Hyperparameter = 0.0,
        eps: Hyperparameter = 1e-8,
        *,
        weight_decay: Hyperparameter = 0.0,
        **options: Unpack[Options],
    ):
        super().__init__(params, dict(lr=lr, alpha=rho, momentum=momentum, eps=eps, weight_decay=weight_decay), options)

    def add_param_group(self, param_group: dict) -> None:
        """Also takes rho, as the constructor does."""
        if isinstance(param_group, dict) and "rho" in param_group:
            param_group["alpha"] = param_group.pop("rho")
        super().add_param_group(param_group)

    def check_group(self, settings: dict) -> None:
        """Names rho as the constructor does."""
        super().check_group({**settings, "rho": settings["alpha"]})

    def formula(self, settings: dict) -> Formula:
        """One of the rules above."""
        hyperparameters = {"alpha": settings["lr"], "rho": settings["alpha"], "eps": settings["eps"]}
        momentum = settings["momentum"]
        if not isinstance(momentum, Tensor) and momentum == 0:
            return Formula(rmsprop, ("square_avg",), hyperparameters)
        return Formula(rmsprop_with_momentum, ("square_avg", "momentum_buffer"), {**hyperparameters, "momentum": momentum})
