"""What the groups of parameters of an optimizer may hold, and whether it is as it should be."""

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
    """What every optimizer of this package takes by name, as a default or in a group of parameters.

    Attributes:
        decoupled_weight_decay: weight_decay shrinks theta by the factor 1 - lr weight_decay before the step, instead of adding
            weight_decay theta to the gradient.
        maximize: go up instead of down.
        fused: True takes compiled code, one pass over memory. False never does. None, for both: compiled where that can be, lists
            on a GPU where it cannot, else one parameter after another. The numbers of all paths agree to rounding.
        capturable: keep t on the device of the parameters, so that a CUDA graph can capture the step. (The compiled step on a
            GPU does so anyway.)
        differentiable: let autograd see the step.
        state_dtype: dtype of the state; None: that of the parameters, but float32 for parameters in half precision.
        stochastic_rounding: round parameters in bfloat16 up or down at random, right on average, so that steps below their
            resolution are not lost.
    """

    decoupled_weight_decay: bool
    maximize: bool
    fused: bool | None
    capturable: bool
    differentiable: bool
    state_dtype: torch.dtype | None
    stochastic_rounding: bool


class Options(CommonOptions, total=False):
    """`CommonOptions` and foreach, which AdaMax also takes by position.

    Attributes:
        foreach: True takes the path of lists of tensors, a few launches for all parameters; on a GPU torch.compile gets it too.
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

# Keys of groups by the range of their values.
_UNIT_INTERVAL = ("beta1", "beta2", "rho", "momentum")
_NOT_NEGATIVE = ("lr", "eps", "eps_hat", "weight_decay", "initial_accumulator_value")


def check(group: dict) -> None:
    """Raises ValueError or TypeError where a value of the group is out of range or of the wrong type."""
    named = dict(group)
    if "betas" in group:
        named |= zip(("beta1", "beta2"), _pair(group["betas"]), strict=True)
    for name in _UNIT_INTERVAL:
        _check(name, named, lambda low, high: low >= 0 and high < 1, "lie in [0, 1)")
    for name in _NOT_NEGATIVE:
        _check(name, named, lambda low, high: low >= 0, "not be negative")
    _check("beta1_decay", named, lambda low, high: low > 0 and high <= 1, "lie in (0, 1]")
    _check("p", named, lambda low, high: low >= 1, "be 1 or more")
    if group["state_dtype"] not in (None, *STORAGE):
        raise TypeError(f"state_dtype={group['state_dtype']!r} should be None or one of {', '.join(map(str, STORAGE))}")
    for one, other in (("fused", "foreach"), ("fused", "differentiable"), ("differentiable", "stochastic_rounding")):
        if group[one] and group[other]:
            raise ValueError(f"{one}=True and {other}=True exclude each other: choose one")


def normalized(settings: dict) -> dict:
    """The settings with betas as a tuple, and numbers of NumPy as Python's, which every checkpoint can hold."""
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
        raise ValueError(f"betas={betas!r} should be a pair of numbers")
    return pair


def _are_default(betas) -> bool:
    """Whether nobody need have given them: command lines pass all defaults on, as copies."""
    return not any(isinstance(beta, Tensor) for beta in _pair(betas)) and _pair(betas) == BETAS


def with_betas(settings: dict, default: tuple | None) -> dict:
    """The settings with beta1 and beta2 joined to betas."""
    settings = dict(settings)
    if default is None:
        return settings  # of an optimizer without betas
    named = [settings.pop(name, None) for name in ("beta1", "beta2")]
    if all(beta is None for beta in named):
        return settings
    if not _are_default(settings.get("betas", BETAS)):
        raise ValueError(f"betas={settings['betas']} and beta1={named[0]}, beta2={named[1]} say the same twice: give one of the two")
    return {**settings, "betas": tuple(old if new is None else new for old, new in zip(default, named, strict=True))}


def _check(name: str, settings: dict, holds: Callable[[float, float], bool], words: str) -> None:
    if name not in settings or (name == "eps_hat" and settings[name] is None):
        return
    value = settings[name]
    if not isinstance(value, (Real, Tensor)):
        raise TypeError(f"{name}={value!r} should be a number, or a tensor with one value per member")
    if isinstance(value, Tensor) and (value.ndim > 1 or value.numel() == 0):
        raise ValueError(f"{name} has shape {tuple(value.shape)}, should be a number or have one value per member, shape [members]")
    low, high = (value.min().item(), value.max().item()) if isinstance(value, Tensor) else (float(value), float(value))
    if not holds(low, high):
        raise ValueError(f"{name}={value} should {words}")
