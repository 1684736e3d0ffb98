"""AdaGrad (Duchi, Hazan & Singer 2011) in its diagonal form (section 5)."""

from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .optimizer import Formula, RuleOptimizer
from .options import Hyperparameter, Options
from .roots import sqrt


def adagrad(theta, g, v, t, alpha, eps) -> tuple[Tensor, Tensor]:
    """Returns (theta, v) after one step; v is the sum of all squared gradients so far."""
    v = v + g * g
    theta = theta - alpha * g / (sqrt(v) + eps)
    return theta, v


class AdaGrad(RuleOptimizer):
    """AdaGrad, the limit of Adam for beta1 = 0, beta2 -> 1 and alpha_t = alpha / sqrt(t) (section 5).

    Args:
        params: parameters, or groups of them, as for any torch optimizer.
        lr: the step size alpha.
        eps: added to the root of v.
        weight_decay: adds weight_decay theta to the gradient; see `Options` for decoupled decay.
        initial_accumulator_value: every element of v before the first step.
        options: see `Options`.

    State per parameter: `sum` (v), `step` (t). The trajectory is torch.optim.Adagrad's up to rounding.
    """

    torch_twin: ClassVar = torch.optim.Adagrad
    constants: ClassVar = {"lr_decay": 0.0}

    def __init__(
        self,
        params: ParamsT,
        lr: Hyperparameter = 1e-2,
        eps: Hyperparameter = 1e-10,
        *,
        weight_decay: Hyperparameter = 0.0,
        initial_accumulator_value: float = 0.0,
        **options: Unpack[Options],
    ):
        defaults = dict(lr=lr, eps=eps, weight_decay=weight_decay, initial_accumulator_value=initial_accumulator_value)
        super().__init__(params, defaults, options)

    def formula(self, settings: dict) -> Formula:
        """Returns the rule above."""
        hyperparameters = {"alpha": settings["lr"], "eps": settings["eps"]}
        return Formula(adagrad, ("sum",), hyperparameters, start=settings["initial_accumulator_value"])

    def check_group(self, settings: dict) -> None:
        """Also raises TypeError if initial_accumulator_value is a tensor."""
        super().check_group(settings)
        if isinstance(start := settings["initial_accumulator_value"], Tensor):
            raise TypeError(f"initial_accumulator_value={start!r} is invalid: expected one number")
