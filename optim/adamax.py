"""AdaMax (Kingma & Ba 2015, Algorithm 2) and the Lp family that leads to it (section 7.1)."""

from __future__ import annotations

from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .optimizer import Formula, RuleOptimizer
from .options import BETAS, CommonOptions, Hyperparameter, Options


def adamax(theta, g, m, u, t, alpha, beta1, beta2, eps=0.0, lambda_=1.0, bias_correction=True) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (theta, m, u) after step t = 1, 2, ... of Algorithm 2 with the gradient g.

    u is the exponentially weighted infinity norm of the gradients so far (equation 12); it needs no bias correction.

    Departs from the paper in one case: where all gradients so far are zero, Algorithm 2 divides 0 by 0; here the update is 0.
    The paper has no eps, so tiny gradients get full steps of about alpha. A nonzero eps is added to |g|, as in torch.
    """
    beta1_t = beta1 * lambda_ ** (t - 1)
    m = beta1_t * m + (1 - beta1_t) * g
    u = torch.maximum(beta2 * u, g.abs() + eps)
    ratio = torch.where(u == 0, 0, m / torch.where(u == 0, 1, u))  # avoids 0 / 0: its derivative is NaN
    theta = theta - alpha / (1 - bias_correction * beta1**t) * ratio
    return theta, m, u


def lp_adam(theta, g, m, v, t, alpha, beta1, beta2, p, lambda_=1.0, bias_correction=True) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (theta, m, v) after one step with the p-norm of past gradients (equations 6 to 11).

    p = 2 is Adam with eps = 0; p -> infinity is AdaMax. v is the moving average of |g|^p with decay rate beta2^p. Large p overflow or
    underflow |g|^p. Where v is 0, the update is 0.
    """
    beta1_t = beta1 * lambda_ ** (t - 1)
    m = beta1_t * m + (1 - beta1_t) * g
    v = beta2**p * v + (1 - beta2**p) * g.abs() ** p
    mhat = m / (1 - bias_correction * beta1**t)
    vhat = v / (1 - bias_correction * beta2 ** (p * t))
    theta = theta - alpha * torch.where(v == 0, 0, mhat / torch.where(v == 0, 1, vhat) ** (1 / p))
    return theta, m, v


class AdaMax(RuleOptimizer):
    """AdaMax: Adam with the infinity norm instead of the root of the second moment (section 7.1).

    ::

        m_t = beta1 m_(t-1) + (1 - beta1) g_t
        u_t = max(beta2 u_(t-1), |g_t|)
        theta_t = theta_(t-1) - alpha / (1 - beta1^t) m_t / u_t

    g_t is the gradient at step t = 1, 2, ..., theta_t are the parameters after it, and m_0 = u_0 = 0. All operations are elementwise.

    Drop-in replacement for torch.optim.Adamax with the same arguments. The default eps is 0, as in the paper, and where u = 0 the
    update is 0; torch adds 1e-8 to |g_t|, which shrinks the steps of tiny gradients. With torch's eps, the trajectory is the same up
    to rounding.

    Args:
        params: parameters, named parameters, or groups of them, as for any torch optimizer.
        lr: the step size alpha. The paper bounds a step by alpha (section 7.1). The exact bound is alpha (1 - beta1) / (1 - beta1 / beta2),
            1.009 alpha at the default betas; slowly falling gradients attain it.
        betas: decay rates (beta1, beta2) of the average m and of the norm u, in [0, 1).
        eps: added to |g|.
        weight_decay: adds weight_decay theta to the gradient; see `Options` for decoupled decay.
        beta1: the first of betas, by name.
        beta2: the second of betas, by name.
        beta1_decay: lambda of section 4, in (0, 1]: m_t uses beta1 lambda^(t-1); the bias correction keeps beta1^t.
        bias_correction: divide m by 1 - beta1^t.
        foreach: see `Options`.
        options: see `Options`.

    Each number may be a tensor with one value, or with one value per member of a population. State per parameter, with torch's names
    and the parameter's shape: `exp_avg` (m), `exp_inf` (u); `step` (t) is a float64 scalar.

    Raises:
        ValueError: a value is out of range.
        TypeError: a value has the wrong type.
    """

    torch_twin: ClassVar = torch.optim.Adamax
    extras: ClassVar = {"beta1_decay": 1.0, "bias_correction": True}

    def __init__(
        self,
        params: ParamsT,
        lr: Hyperparameter = 2e-3,
        betas: tuple[Hyperparameter, Hyperparameter] = BETAS,
        eps: Hyperparameter = 0.0,
        weight_decay: Hyperparameter = 0.0,
        foreach: bool | None = None,
        *,
        beta1: Hyperparameter | None = None,
        beta2: Hyperparameter | None = None,
        beta1_decay: Hyperparameter = 1.0,
        bias_correction: bool | Tensor = True,
        **options: Unpack[CommonOptions],
    ):
        defaults = dict(lr=lr, betas=betas, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)
        super().__init__(
            params, {**defaults, "beta1_decay": beta1_decay, "bias_correction": bias_correction}, {**options, "foreach": foreach}
        )

    def formula(self, settings: dict) -> Formula:
        """Returns Algorithm 2."""
        beta1, beta2 = settings["betas"]
        hyperparameters = {
            "alpha": settings["lr"],
            "beta1": beta1,
            "beta2": beta2,
            "eps": settings["eps"],
            "lambda_": settings["beta1_decay"],
        }
        return Formula(adamax, ("exp_avg", "exp_inf"), {**hyperparameters, "bias_correction": settings["bias_correction"]})


class LpAdam(RuleOptimizer):
    """Adam with the p-norm of past gradients instead of the 2-norm: the family whose limit is AdaMax (section 7.1).

    ::

        v_t = beta2^p v_(t-1) + (1 - beta2^p) |g_t|^p
        theta_t = theta_(t-1) - alpha mhat_t / vhat_t^(1/p)

    Args:
        params: parameters, named parameters, or groups of them, as for any torch optimizer.
        lr: the step size alpha.
        betas: decay rates (beta1, beta2), in [0, 1). v decays with beta2^p, so p = 2 is Adam with beta2 squared and eps = 0.
        p: order of the norm, at least 1.
        weight_decay: adds weight_decay theta to the gradient; see `Options` for decoupled decay.
        beta1: the first of betas, by name.
        beta2: the second of betas, by name.
        beta1_decay: lambda of section 4, in (0, 1].
        bias_correction: divide m by 1 - beta1^t and v by 1 - beta2^(p t).
        options: see `Options`.

    State per parameter, of the parameter's shape: `exp_avg` (m), `exp_avg_pow` (v); `step` (t) is a float64 scalar.

    Raises:
        ValueError: a value is out of range.
        TypeError: a value has the wrong type.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Hyperparameter = 1e-3,
        betas: tuple[Hyperparameter, Hyperparameter] = BETAS,
        p: Hyperparameter = 2.0,
        weight_decay: Hyperparameter = 0.0,
        *,
        beta1: Hyperparameter | None = None,
        beta2: Hyperparameter | None = None,
        beta1_decay: Hyperparameter = 1.0,
        bias_correction: bool | Tensor = True,
        **options: Unpack[Options],
    ):
        defaults = dict(lr=lr, betas=betas, beta1=beta1, beta2=beta2, p=p, weight_decay=weight_decay)
        super().__init__(params, {**defaults, "beta1_decay": beta1_decay, "bias_correction": bias_correction}, options)

    def formula(self, settings: dict) -> Formula:
        """Returns equations 6 to 11 for a finite p."""
        beta1, beta2 = settings["betas"]
        hyperparameters = {"alpha": settings["lr"], "beta1": beta1, "beta2": beta2, "p": settings["p"], "lambda_": settings["beta1_decay"]}
        return Formula(lp_adam, ("exp_avg", "exp_avg_pow"), {**hyperparameters, "bias_correction": settings["bias_correction"]})
