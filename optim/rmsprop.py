"""RMSProp (Tieleman & Hinton 2012), with optional momentum on the rescaled gradient (section 5)."""

from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .optimizer import Formula, RuleOptimizer
from .options import Hyperparameter, Options
from .roots import sqrt


def rmsprop(theta, g, v, t, alpha, rho, eps) -> tuple[Tensor, Tensor]:
    """Returns (theta, v) after one step; v is the moving average of the squared gradient, without bias correction."""
    v = rho * v + (1 - rho) * (g * g)
    theta = theta - alpha * g / (sqrt(v) + eps)
    return theta, v


def rmsprop_with_momentum(theta, g, v, d, t, alpha, rho, momentum, eps) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (theta, v, d) after one step with momentum; d accumulates the rescaled gradient."""
    v = rho * v + (1 - rho) * (g * g)
    d = momentum * d + g / (sqrt(v) + eps)
    theta = theta - alpha * d
    return theta, v, d


class RMSProp(RuleOptimizer):
    """RMSProp, with optional momentum.

    Args:
        params: parameters, or groups of them, as for any torch optimizer.
        lr: the step size alpha.
        rho: decay rate of v, the average squared gradient, in [0, 1). Groups and checkpoints use torch's name, alpha.
        momentum: decay rate of d, the sum of rescaled gradients, in [0, 1).
        eps: added to the root of v.
        weight_decay: adds weight_decay theta to the gradient; see `Options` for decoupled decay.
        options: see `Options`.

    State per parameter: `square_avg` (v), `momentum_buffer` (d; created as 0 once momentum is above 0), `step` (t). The trajectory is
    torch.optim.RMSprop's with centered=False, up to rounding.
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
        """Also accepts rho, as the constructor does."""
        if isinstance(param_group, dict) and "rho" in param_group:
            param_group["alpha"] = param_group.pop("rho")
        super().add_param_group(param_group)

    def check_group(self, settings: dict) -> None:
        """Also checks alpha under the constructor's name, rho."""
        super().check_group({**settings, "rho": settings["alpha"]})

    def formula(self, settings: dict) -> Formula:
        """Returns the rule above with momentum, or the one without."""
        hyperparameters = {"alpha": settings["lr"], "rho": settings["alpha"], "eps": settings["eps"]}
        momentum = settings["momentum"]
        if not isinstance(momentum, Tensor) and momentum == 0:
            return Formula(rmsprop, ("square_avg",), hyperparameters)
        return Formula(rmsprop_with_momentum, ("square_avg", "momentum_buffer"), {**hyperparameters, "momentum": momentum})
