"""Stochastic gradient descent with Nesterov momentum in torch's form, which equals Sutskever et al. (2013) while alpha is constant."""

from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .optimizer import Formula, RuleOptimizer
from .options import Hyperparameter, Options


def sgd_nesterov(theta, g, d, t, alpha, momentum) -> tuple[Tensor, Tensor]:
    """Returns (theta, d) after one step; d accumulates gradients, and theta moves along g + momentum d, which looks one step ahead."""
    d = momentum * d + g
    theta = theta - alpha * (g + momentum * d)
    return theta, d


class SGDNesterov(RuleOptimizer):
    """Stochastic gradient descent with Nesterov momentum.

    Args:
        params: parameters, or groups of them, as for any torch optimizer.
        lr: the step size alpha.
        momentum: decay rate of d, the sum of gradients, in [0, 1).
        weight_decay: adds weight_decay theta to the gradient; see `Options` for decoupled decay.
        options: see `Options`.

    State per parameter: `momentum_buffer` (d), `step` (t). The trajectory is that of torch.optim.SGD(nesterov=True) up to rounding.
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
        """Omits `step`, which torch.optim.SGD does not have, unless stochastic rounding needs it."""
        state_dict = super().state_dict()
        if not any(self.settings(group)["stochastic_rounding"] for group in state_dict["param_groups"]):
            state_dict["state"] = {
                place: {name: value for name, value in values.items() if name != "step"} for place, values in state_dict["state"].items()
            }
        return state_dict

    def formula(self, settings: dict) -> Formula:
        """Returns the rule above."""
        return Formula(sgd_nesterov, ("momentum_buffer",), {"alpha": settings["lr"], "momentum": settings["momentum"]})
