"""RMSProp (Tieleman & Hinton 2012), with the momentum on the rescaled gradient that section 5 of the paper mentions."""

from typing import Unpack

from torch import Tensor

from optim.optimizer import Formula, RuleOptimizer
from optim.options import Hyperparameter, Options


def rmsprop(theta, g, v, d, t, alpha, rho, momentum, eps) -> tuple[Tensor, Tensor, Tensor]:
    """One step: v averages the squared gradient, d gathers the rescaled gradient with momentum. Nothing is bias-corrected."""
    v = rho * v + (1 - rho) * (g * g)
    d = momentum * d + g / (v.sqrt() + eps)
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
        options: see `Options`.

    State per parameter: `v`, `d` and the number of steps `t`. Follows the trajectory of torch.optim.RMSprop.
    """

    def __init__(
        self,
        params,
        lr: Hyperparameter = 1e-3,
        rho: Hyperparameter = 0.9,
        momentum: Hyperparameter = 0.0,
        eps: Hyperparameter = 1e-8,
        **options: Unpack[Options],
    ):
        super().__init__(params, dict(lr=lr, rho=rho, momentum=momentum, eps=eps), options)

    def formula(self, group: dict) -> Formula:
        """The rule above."""
        return Formula(rmsprop, ("v", "d"), {"alpha": group["lr"], "rho": group["rho"], "momentum": group["momentum"], "eps": group["eps"]})
