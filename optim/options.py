"""The options of parameter groups, and the validation of hyper-parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import TypedDict

import torch
from torch import Tensor

from .trace import STORAGE

# A hyper-parameter: one number, or one value per member of a population (shape [members]).
Hyperparameter = float | Tensor

BETAS = (0.9, 0.999)


class CommonOptions(TypedDict, total=False):
    """Keyword arguments of every update rule's optimizer, and keys of its parameter groups.

    Attributes:
        decoupled_weight_decay: multiply theta by 1 - lr weight_decay before the step, instead of adding weight_decay theta to the
            gradient.
        maximize: maximise the objective.
        fused: True requires compiled code, one pass over memory; False forbids it. If fused and foreach are None: compiled code where
            possible, else lists of tensors on a GPU and one parameter after another on a CPU. All paths agree up to rounding.
        capturable: keep t on the parameters' device, so that a CUDA graph can capture the step. The compiled step on a GPU always does.
        differentiable: let autograd differentiate through the step.
        state_dtype: dtype of the state. None: the parameters' dtype, but float32 for half precision.
        stochastic_rounding: round bfloat16 parameters up or down at random, without bias, so that steps below their resolution are not
            lost.
    """

    decoupled_weight_decay: bool
    maximize: bool
    fused: bool | None
    capturable: bool
    differentiable: bool
    state_dtype: torch.dtype | None
    stochastic_rounding: bool


class Options(CommonOptions, total=False):
    """`CommonOptions` and foreach, which AdaMax also accepts by position.

    Attributes:
        foreach: True selects lists of tensors, a few launches for all parameters. torch.compile gets this path on a GPU by default.
    """

    foreach: bool | None


DEFAULTS: Mapping[str, object] = Options(
    decoupled_weight_decay=False,
    maximize=False,
    foreach=None,
    fused=None,
    capturable=False,
    differentiable=False,
    state_dtype=None,
    stochastic_rounding=False,
)

# Keys by valid range.
_UNIT_INTERVAL = ("beta1", "beta2", "rho", "momentum")
_NOT_NEGATIVE = ("lr", "eps", "eps_hat", "weight_decay", "initial_accumulator_value")


def check(group: dict) -> None:
    """Raises ValueError or TypeError if a value of the group is out of range or has the wrong type."""
    named = dict(group)
    if "betas" in group:
        named |= zip(("beta1", "beta2"), _pair(group["betas"]), strict=True)
    for name in _UNIT_INTERVAL:
        _check(name, named, lambda low, high: low >= 0 and high < 1, "in [0, 1)")
    for name in _NOT_NEGATIVE:
        _check(name, named, lambda low, high: low >= 0, "at least 0")
    _check("beta1_decay", named, lambda low, high: low > 0 and high <= 1, "in (0, 1]")
    _check("p", named, lambda low, high: low >= 1, "at least 1")
    if group["state_dtype"] not in (None, *STORAGE):
        raise TypeError(f"state_dtype={group['state_dtype']!r} is invalid: expected None or one of {', '.join(map(str, STORAGE))}")
    for one, other in (("fused", "foreach"), ("fused", "differentiable"), ("differentiable", "stochastic_rounding")):
        if group[one] and group[other]:
            raise ValueError(f"{one}=True and {other}=True are mutually exclusive")


def normalized(settings: dict) -> dict:
    """Returns the settings with betas as a tuple and NumPy numbers as Python numbers, which every checkpoint can hold."""
    settings = {key: _number(value) for key, value in settings.items()}
    if "betas" in settings:
        settings["betas"] = tuple(map(_number, _pair(settings["betas"])))
    return settings


def _number(value):
    return value.item() if hasattr(value, "item") and not isinstance(value, Tensor) and getattr(value, "ndim", None) == 0 else value


def _pair(betas) -> tuple:
    try:
        pair = tuple(betas.tolist() if isinstance(betas, Tensor) and not betas.requires_grad else betas)
    except TypeError:
        pair = ()
    if len(pair) != 2:
        raise ValueError(f"betas={betas!r} is invalid: expected a pair of numbers")
    return pair


def _are_default(betas) -> bool:
    """Returns whether betas equal the defaults, which command-line tools pass explicitly, as copies."""
    return not any(isinstance(beta, Tensor) for beta in _pair(betas)) and _pair(betas) == BETAS


def with_betas(settings: dict, default: tuple | None) -> dict:
    """Returns the settings with beta1 and beta2 merged into betas."""
    settings = dict(settings)
    if default is None:
        return settings  # the optimizer has no betas
    named = [settings.pop(name, None) for name in ("beta1", "beta2")]
    if all(beta is None for beta in named):
        return settings
    if not _are_default(settings.get("betas", BETAS)):
        raise ValueError(f"betas={settings['betas']} conflicts with beta1={named[0]}, beta2={named[1]}: use either")
    return {**settings, "betas": tuple(old if new is None else new for old, new in zip(default, named, strict=True))}


def _check(name: str, settings: dict, holds: Callable[[float, float], bool], expected: str) -> None:
    if name not in settings or (name == "eps_hat" and settings[name] is None):
        return
    value = settings[name]
    if not isinstance(value, (Real, Tensor)):
        raise TypeError(f"{name}={value!r} is invalid: expected a number, or a tensor with one value per member")
    if isinstance(value, Tensor) and (value.ndim > 1 or value.numel() == 0):
        raise ValueError(f"{name} has shape {tuple(value.shape)}: expected a number, or one value per member of shape [members]")
    low, high = (value.min().item(), value.max().item()) if isinstance(value, Tensor) else (float(value), float(value))
    if not holds(low, high):
        raise ValueError(f"{name}={value} is invalid: expected a number {expected}")
