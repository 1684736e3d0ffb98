"""Stochastic gradient descent with Nesterov momentum, in torch's form: that of Sutskever et al. 2013 while alpha is constant."""

from torch import Tensor

from optim.optimizer import Hyperparameter, RuleOptimizer


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
        fused: see `RuleOptimizer`.

    State per parameter: `d` and the number of steps `t`. Follows the trajectory of torch.optim.SGD(nesterov=True).
    """

    rule = staticmethod(sgd_nesterov)
    state_names = ("d",)
    hyperparameters = ("lr", "momentum")

    def __init__(self, params, lr: Hyperparameter = 1e-2, momentum: Hyperparameter = 0.9, fused: bool | None = None):
        super().__init__(params, fused=fused, lr=lr, momentum=momentum)
