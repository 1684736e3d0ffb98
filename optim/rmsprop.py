"""RMSProp (Tieleman & Hinton 2012), with the momentum on the rescaled gradient that section 5 of the paper mentions."""

from typing import ClassVar, Unpack

import torch
from torch import Tensor

from optim.optimizer import Formula, RuleOptimizer
from optim.options import Hyperparameter, Options
from optim.roots import sqrt


def rmsprop(theta, g, v, d, t, alpha, rho, momentum, eps) -> tuple[Tensor, Tensor, Tensor]:
    """One step: v averages the squared gradient, d gathers the rescaled gradient with momentum. Nothing is bias-corrected."""
    v = rho * v + (1 - rho) * (g * g)
    d = momentum * d + g / (sqrt(v) + eps)
    theta = theta - alpha * d
    return theta, v, d


class RMSProp(RuleOptimizer):
    """RMSProp, with momentum if wanted.

    Args:
        params: parameters, or groups of them, as for any torch optimizer.
        lr: the step size alpha.
        rho: decay rate of the average v of the squared gradient, in [0, 1) (torch calls it alpha).
        momentum: decay rate of the sum d of rescaled gradients, in [0, 1).
        eps: added to the root of v.
        weight_decay: times theta, added to the gradient; see `Options` for the decoupled one.
        options: see `Options`.

    State per parameter: v is `square_avg`, d `momentum_buffer`, the number of steps `step`. Follows the trajectory of
    torch.optim.RMSprop, not centered.
    """

    torch_twin: ClassVar = torch.optim.RMSprop
    constants: ClassVar = {"centered": False}
    optional_state: ClassVar = frozenset({"momentum_buffer"})

    def __init__(
        self,
        params,
        lr: Hyperparameter = 1e-3,
        rho: Hyperparameter = 0.9,
        momentum: Hyperparameter = 0.0,
        eps: Hyperparameter = 1e-8,
        *,
        weight_decay: Hyperparameter = 0.0,
        **options: Unpack[Options],
    ):
        super().__init__(params, dict(lr=lr, rho=rho, momentum=momentum, eps=eps, weight_decay=weight_decay), options)

    def state_dict(self) -> dict:
        """As of any torch optimizer; rho is there also as alpha, torch's name."""
        state_dict = super().state_dict()
        for group in state_dict["param_groups"]:
            group["alpha"] = group["rho"]
        return state_dict

    def loaded_group(self, group: dict) -> dict:
        """With rho, which torch calls alpha."""
        group = {**group, "rho": group.get("rho", group.get("alpha"))}
        return {key: value for key, value in group.items() if key != "alpha"}

    def formula(self, settings: dict) -> Formula:
        """The rule above."""
        hyperparameters = {name: settings[name] for name in ("rho", "momentum", "eps")}
        return Formula(rmsprop, ("square_avg", "momentum_buffer"), {"alpha": settings["lr"], **hyperparameters})
