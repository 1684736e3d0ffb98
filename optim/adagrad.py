"""AdaGrad (Duchi, Hazan & Singer 2011), in the diagonal form that section 5 of the paper compares with."""

from typing import Unpack

from torch import Tensor

from optim.optimizer import Formula, RuleOptimizer
from optim.options import Hyperparameter, Options


def adagrad(theta, g, v, t, alpha, eps) -> tuple[Tensor, Tensor]:
    """One step: theta moves along g over the root of v, the sum of all squared gradients so far."""
    v = v + g * g
    theta = theta - alpha * g / (v.sqrt() + eps)
    return theta, v


class AdaGrad(RuleOptimizer):
    """AdaGrad: the limit of Adam for beta1 = 0, beta2 -> 1 and alpha_t = alpha / sqrt(t) (section 5).

    Args:
        params: parameters, or groups of them, as for any torch optimizer.
        lr: the step size alpha.
        eps: added to the root of v.
        options: see `Options`.

    State per parameter: `v` and the number of steps `t`. Follows the trajectory of torch.optim.Adagrad.
    """

    def __init__(self, params, lr: Hyperparameter = 1e-2, eps: Hyperparameter = 1e-10, **options: Unpack[Options]):
        super().__init__(params, dict(lr=lr, eps=eps), options)

    def formula(self, group: dict) -> Formula:
        """The rule above."""
        return Formula(adagrad, ("v",), {"alpha": group["lr"], "eps": group["eps"]})
