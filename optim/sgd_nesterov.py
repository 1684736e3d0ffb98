"""Stochastic gradient descent with Nesterov momentum, in torch's form: that of Sutskever et al. 2013 while alpha is constant."""

from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .optimizer import Formula, RuleOptimizer
from .options import Hyperparameter, Options


def sgd_nesterov(theta, g, d, t, alpha, momentum) -> tuple[Tensor, Tensor]:
    """One step: d gathers gradients; theta moves along the d of the step to come, g + momentum d, not along d itself."""
    d = momentum * d + g
    theta = theta - alpha * (g + momentum * d)
    return theta, d


class SGDNesterov(RuleOptimizer):
    """Stochastic gradient descent with Nesterov momentum.

    Args:
        params: parameters, or groups of them, as for any torch optimizer.
        lr: the step size alpha.
        momentum: decay rate of the sum d of gradients, in [0, 1).
        weight_decay: times theta, added to the gradient; see `Options` for the decoupled one.
        options: see `Options`.

    State per parameter: d is `momentum_buffer`, the number of steps `step`. Follows the trajectory of torch.optim.SGD(nesterov=True).
    """

    torch_twin: ClassVar = torch.optim.SGD
    constants: ClassVar = {"nesterov": True, "dampening": 0.0}
    optional_state: ClassVar = frozenset({"step"})

    def __init__(
        self,
        params: ParamsT,
        lr: Hyperparameter = 1e-2,
        momentum: Hyperparameter = 0.9,
        *,
        weight_decay: Hyperparameter = 0.0,
        **options: Unpack[Options],
    ):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay), options)

    def state_dict(self) -> dict:
        """As torch's, without the number of steps, unless stochastic rounding needs it."""
        state_dict = super().state_dict()
        if not any(self.settings(group)["stochastic_rounding"] for group in state_dict["param_groups"]):
            state_dict["state"] = {
                place: {name: value for name, value in values.items() if name != "step"} for place, values in state_dict["state"].items()
            }
        return state_dict

    def formula(self, settings: dict) -> Formula:
        """The rule above."""
        return Formula(sgd_nesterov, ("momentum_buffer",), {"alpha": settings["lr"], "momentum": settings["momentum"]})
