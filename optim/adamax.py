"""AdaMax (Kingma & Ba 2015, Algorithm 2)."""

import torch
from torch import Tensor

from optim.optimizer import Hyperparameter, RuleOptimizer


def adamax(theta, g, m, u, t, alpha, beta1, beta2, bias_correction=True) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Algorithm 2: the gradient g at step t = 1, 2, ... takes (theta, m, u) to their new values.

    u is the exponentially weighted infinity norm of the gradients so far (equation 12); it needs no bias correction.

    Our one departure from the paper: where every gradient so far was exactly zero, Algorithm 2 divides 0 by 0. There the
    update is 0. No eps enters anywhere, so that tiny gradients get full steps of about alpha (section 7.1).
    """
    m = beta1 * m + (1 - beta1) * g
    u = torch.maximum(beta2 * u, g.abs())
    theta = theta - alpha / (1 - bias_correction * beta1**t) * torch.where(u == 0, 0, m / u)
    return theta, m, u


class AdaMax(RuleOptimizer):
    """AdaMax: Adam with the infinity norm in place of the root of the second moment (section 7.1).

    Args:
        params: parameters, or groups of them, as for any torch optimizer.
        lr: the step size alpha, by default 0.002; a step is hardly ever longer (section 7.1).
        beta1: decay rate of the average m of the gradient, in [0, 1).
        beta2: decay rate of the infinity norm u, in [0, 1).
        bias_correction: divide m by 1 - beta1^t.
        fused: see `RuleOptimizer`.

    Every hyper-parameter may be a tensor with one value per member of a population. State per parameter, of its shape and
    dtype: `m`, `u`, and the number of steps `t`. torch.optim.Adamax differs: it takes max(beta2 u, |g| + eps). Raises
    ValueError or TypeError for a value out of range.
    """

    rule = staticmethod(adamax)
    state_names = ("m", "u")
    hyperparameters = ("lr", "beta1", "beta2", "bias_correction")

    def __init__(
        self,
        params,
        lr: Hyperparameter = 2e-3,
        beta1: Hyperparameter = 0.9,
        beta2: Hyperparameter = 0.999,
        bias_correction: bool | Tensor = True,
        fused: bool | None = None,
    ):
        super().__init__(params, fused=fused, lr=lr, beta1=beta1, beta2=beta2, bias_correction=bias_correction)
