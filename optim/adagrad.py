"""AdaGrad (Duchi, Hazan & Singer 2011), in the diagonal form that section 5 of the paper compares with."""

from typing import ClassVar, Unpack

import torch
from torch import Tensor

from optim.optimizer import Formula, RuleOptimizer
from optim.options import Hyperparameter, Options
from optim.roots import sqrt


def adagrad(theta, g, v, t, alpha, eps) -> tuple[Tensor, Tensor]:
    """One step: theta moves along g over the root of v, the sum of all squared gradients so far."""
    v = v + g * g
    theta = theta - alpha * g / (sqrt(v) + eps)
    return theta, v


class AdaGrad(RuleOptimizer):
    """AdaGrad: the limit of Adam for beta1 = 0, beta2 -> 1 and alpha_t = alpha / sqrt(t) (section 5).

    Args:
        params: parameters, or groups of them, as for any torch optimizer.
        lr: the step size alpha.
        eps: added to the root of v.
        weight_decay: times theta, added to the gradient; see `Options` for the decoupled one.
        options: see `Options`.

    State per parameter: v is `sum`, the number of steps `step`. Follows the trajectory of torch.optim.Adagrad.
    """

    torch_twin: ClassVar = torch.optim.Adagrad
    constants: ClassVar = {"lr_decay": 0.0, "initial_accumulator_value": 0.0}

    def __init__(
        self,
        params,
        lr: Hyperparameter = 1e-2,
        eps: Hyperparameter = 1e-10,
        *,
        weight_decay: Hyperparameter = 0.0,
        **options: Unpack[Options],
    ):
        super().__init__(params, dict(lr=lr, eps=eps, weight_decay=weight_decay), options)

    def formula(self, settings: dict) -> Formula:
        """The rule above."""
        return Formula(adagrad, ("sum",), {"alpha": settings["lr"], "eps": settings["eps"]})
