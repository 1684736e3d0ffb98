"""AdaDelta (Zeiler 2012)."""

from typing import Unpack

from torch import Tensor

from optim.optimizer import Formula, RuleOptimizer
from optim.options import Hyperparameter, Options


def adadelta(theta, g, v, d, t, alpha, rho, eps) -> tuple[Tensor, Tensor, Tensor]:
    """One step: the ratio of the root mean squares of past steps (d) and of gradients (v) gives the step its length."""
    v = rho * v + (1 - rho) * (g * g)
    delta = (d + eps).sqrt() / (v + eps).sqrt() * g
    d = rho * d + (1 - rho) * (delta * delta)
    theta = theta - alpha * delta
    return theta, v, d


class AdaDelta(RuleOptimizer):
    """AdaDelta: steps in the units of the parameters, so that a learning rate of 1 is the algorithm as published.

    Args:
        params: parameters, or groups of them, as for any torch optimizer.
        lr: a factor on the step.
        rho: decay rate of both averages, in [0, 1).
        eps: added under both roots; it also sets the length of the first steps.
        options: see `Options`.

    State per parameter: `v`, `d` and the number of steps `t`. Follows the trajectory of torch.optim.Adadelta.
    """

    def __init__(
        self, params, lr: Hyperparameter = 1.0, rho: Hyperparameter = 0.95, eps: Hyperparameter = 1e-6, **options: Unpack[Options]
    ):
        super().__init__(params, dict(lr=lr, rho=rho, eps=eps), options)

    def formula(self, group: dict) -> Formula:
        """The rule above."""
        return Formula(adadelta, ("v", "d"), {"alpha": group["lr"], "rho": group["rho"], "eps": group["eps"]})
