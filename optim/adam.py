"""Adam (Kingma & Ba 2015, Algorithm 1)."""

from __future__ import annotations

from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .optimizer import Formula, RuleOptimizer
from .options import BETAS, Hyperparameter, Options
from .roots import sqrt


def adam(theta, g, m, v, t, alpha, beta1, beta2, eps, lambda_=1.0, bias_correction=True) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (theta, m, v) after step t = 1, 2, ... of Algorithm 1 with the gradient g.

    m and v are moving averages of the gradient and of its elementwise square. Both start at zero, which biases them by the factors
    1 - beta1^t and 1 - beta2^t; mhat and vhat correct this (section 3). eps is added to the root of vhat: not under the root, and not
    to the root of v. Without bias_correction, mhat = m and vhat = v. The convergence theorem assumes lambda_ < 1, which decays beta1
    as beta1 lambda^(t-1) (section 4).
    """
    beta1_t = beta1 * lambda_ ** (t - 1)
    m = beta1_t * m + (1 - beta1_t) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    mhat = m / (1 - bias_correction * beta1**t)
    vhat = v / (1 - bias_correction * beta2**t)
    theta = theta - alpha * mhat / (sqrt(vhat) + eps)
    return theta, m, v


def adam_reordered(theta, g, m, v, t, alpha, beta1, beta2, eps_hat, lambda_=1.0, bias_correction=True) -> tuple[Tensor, Tensor, Tensor]:
    """Applies the bias corrections to the step size, which saves two divisions per element (end of section 2).

    Equals Algorithm 1 if eps_hat = eps sqrt(1 - beta2^t). With a constant eps_hat, the first steps differ.
    """
    beta1_t = beta1 * lambda_ ** (t - 1)
    m = beta1_t * m + (1 - beta1_t) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    alpha_t = alpha * (1 - bias_correction * beta2**t) ** 0.5 / (1 - bias_correction * beta1**t)
    theta = theta - alpha_t * m / (sqrt(v) + eps_hat)
    return theta, m, v


def amsgrad(theta, g, m, v, vmax, t, alpha, beta1, beta2, eps, lambda_=1.0, bias_correction=True) -> tuple[Tensor, ...]:
    """Divides by the root of vmax, the largest v so far (Reddi, Kale & Kumar 2018), with bias correction as in torch."""
    beta1_t = beta1 * lambda_ ** (t - 1)
    m = beta1_t * m + (1 - beta1_t) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    vmax = torch.maximum(vmax, v)
    mhat = m / (1 - bias_correction * beta1**t)
    vhat = vmax / (1 - bias_correction * beta2**t)
    theta = theta - alpha * mhat / (sqrt(vhat) + eps)
    return theta, m, v, vmax


class Adam(RuleOptimizer):
    """Adam: steps of about alpha, from estimates of the gradient's first and second moments (section 2).

    ::

        m_t = beta1 m_(t-1) + (1 - beta1) g_t            mhat_t = m_t / (1 - beta1^t)
        v_t = beta2 v_(t-1) + (1 - beta2) g_t^2          vhat_t = v_t / (1 - beta2^t)
        theta_t = theta_(t-1) - alpha mhat_t / (sqrt(vhat_t) + eps)

    g_t is the gradient at step t = 1, 2, ..., theta_t are the parameters after it, and m_0 = v_0 = 0. All operations are elementwise.

    Drop-in replacement for torch.optim.Adam: same arguments, same trajectory up to rounding. Unlike torch, it computes half precision
    in float32, and 1 - beta^t always in float64.

    Args:
        params: parameters, named parameters, or groups of them, as for any torch optimizer.
        lr: the step size alpha.
        betas: decay rates (beta1, beta2) of the averages m and v, in [0, 1).
        eps: added to the root of vhat.
        weight_decay: adds weight_decay theta to the gradient; see `Options` for decoupled decay.
        amsgrad: divide by the root of vmax, the largest v so far.
        beta1: the first of betas, by name.
        beta2: the second of betas, by name.
        eps_hat: selects the reordered update at the end of section 2: replaces eps, and is added to the root of the uncorrected v.
        beta1_decay: lambda of section 4, in (0, 1]: m_t uses beta1 lambda^(t-1); the bias correction keeps beta1^t.
        bias_correction: divide m and v by 1 - beta^t. Without it, Adam is RMSProp with momentum on the gradient (section 5).
        options: see `Options`.

    Each number may be a tensor with one value, or with one value per member of a population. State per parameter, with torch's names
    and the parameter's shape: `exp_avg` (m), `exp_avg_sq` (v), `max_exp_avg_sq` (vmax, with amsgrad); `step` (t) is a float64 scalar.

    Raises:
        ValueError: a value is out of range.
        TypeError: a value has the wrong type.
    """

    torch_twin: ClassVar = torch.optim.Adam
    extras: ClassVar = {"eps_hat": None, "beta1_decay": 1.0, "bias_correction": True}
    optional_state: ClassVar = frozenset({"max_exp_avg_sq"})

    def __init__(
        self,
        params: ParamsT,
        lr: Hyperparameter = 1e-3,
        betas: tuple[Hyperparameter, Hyperparameter] = BETAS,
        eps: Hyperparameter = 1e-8,
        weight_decay: Hyperparameter = 0.0,
        amsgrad: bool = False,
        *,
        beta1: Hyperparameter | None = None,
        beta2: Hyperparameter | None = None,
        eps_hat: Hyperparameter | None = None,
        beta1_decay: Hyperparameter = 1.0,
        bias_correction: bool | Tensor = True,
        **options: Unpack[Options],
    ):
        defaults = dict(lr=lr, betas=betas, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)
        super().__init__(params, {**defaults, "eps_hat": eps_hat, "beta1_decay": beta1_decay, "bias_correction": bias_correction}, options)

    def formula(self, settings: dict) -> Formula:
        """Returns Algorithm 1, or one of its two variants."""
        beta1, beta2 = settings["betas"]
        hyperparameters = {"alpha": settings["lr"], "beta1": beta1, "beta2": beta2, "lambda_": settings["beta1_decay"]}
        hyperparameters["bias_correction"] = settings["bias_correction"]
        if settings["eps_hat"] is not None:
            return Formula(adam_reordered, ("exp_avg", "exp_avg_sq"), {**hyperparameters, "eps_hat": settings["eps_hat"]})
        hyperparameters["eps"] = settings["eps"]
        if settings["amsgrad"]:
            return Formula(amsgrad, ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"), hyperparameters)
        return Formula(adam, ("exp_avg", "exp_avg_sq"), hyperparameters)

    def check_group(self, settings: dict) -> None:
        """Also raises ValueError for amsgrad with eps_hat, a combination that no publication defines."""
        super().check_group(settings)
        if settings["amsgrad"] and settings["eps_hat"] is not None:
            raise ValueError(f"amsgrad=True and eps_hat={settings['eps_hat']} are mutually exclusive: use eps")
