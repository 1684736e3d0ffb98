"""Adam (Kingma & Ba 2015, Algorithm 1)."""

from torch import Tensor

from optim.optimizer import Hyperparameter, RuleOptimizer


def adam(theta, g, m, v, t, alpha, beta1, beta2, eps, bias_correction=True) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Algorithm 1: the gradient g at step t = 1, 2, ... takes (theta, m, v) to their new values.

    m and v are moving averages of the gradient and of its elementwise square. Both start at zero and are therefore too
    small at first, by the factors 1 - beta1^t and 1 - beta2^t that mhat and vhat take out again (section 3). eps is added
    to the root of vhat, not under the root and not to the root of v. With bias_correction off, mhat = m and vhat = v.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    mhat = m / (1 - bias_correction * beta1**t)
    vhat = v / (1 - bias_correction * beta2**t)
    theta = theta - alpha * mhat / (vhat.sqrt() + eps)
    return theta, m, v


class Adam(RuleOptimizer):
    """Adam: steps of about alpha, scaled by estimates of the gradient's first and second moments (section 2).

    Args:
        params: parameters, or groups of them, as for any torch optimizer.
        lr: the step size alpha, by default 0.001.
        beta1: decay rate of the average m of the gradient, in [0, 1).
        beta2: decay rate of the average v of the squared gradient, in [0, 1).
        eps: added to the root of vhat.
        bias_correction: divide m and v by 1 - beta^t. Without it Adam is RMSProp with momentum on the gradient (section 5).
        fused: see `RuleOptimizer`.

    Every hyper-parameter may be a tensor with one value per member of a population. State per parameter, of its shape and
    dtype: `m`, `v`, and the number of steps `t`. Raises ValueError or TypeError for a value out of range.
    """

    rule = staticmethod(adam)
    state_names = ("m", "v")
    hyperparameters = ("lr", "beta1", "beta2", "eps", "bias_correction")

    def __init__(
        self,
        params,
        lr: Hyperparameter = 1e-3,
        beta1: Hyperparameter = 0.9,
        beta2: Hyperparameter = 0.999,
        eps: Hyperparameter = 1e-8,
        bias_correction: bool | Tensor = True,
        fused: bool | None = None,
    ):
        super().__init__(params, fused=fused, lr=lr, beta1=beta1, beta2=beta2, eps=eps, bias_correction=bias_correction)
