"""The state of a parameter: its creation, and its validation and conversion when loaded.

Names are torch's, so torch and this package read each other's checkpoints. `step`, a float64 tensor, is the t of the rules.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from .plans import HALF

# State names of our optimizers and of torch's; they identify the optimizer of a checkpoint.
_NAMES = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "exp_avg_pow", "sum", "square_avg", "momentum_buffer", "acc_delta"}
_NAMES |= {"grad_avg", "mu_product", "mu", "eta", "ax", "prev", "step_size", "row_var", "col_var", "variance"}


def state_dtype(theta: Tensor, wanted: torch.dtype | None) -> torch.dtype:
    """Returns the dtype of a parameter's state: by default float32 for half precision, in which averages of squares underflow or stall."""
    if theta.is_complex():
        return theta.dtype
    return wanted or (torch.float32 if theta.dtype in HALF else theta.dtype)


def complete(state: dict, theta: Tensor, names: Collection[str], dtype: torch.dtype | None, start: float = 0.0) -> None:
    """Adds missing state, filled with `start`, and converts `step` to a float64 tensor of one element."""
    step = state.get("step", 0)
    if not isinstance(step, Tensor):
        state["step"] = torch.tensor(float(step), dtype=torch.float64)
    elif step.dtype is not torch.float64 or (theta.device.type == "cpu" and step.device.type != "cpu"):
        state["step"] = step.to(theta.device if theta.device.type == "cpu" else step.device, torch.float64)
    for name in names:
        if name not in state:
            fill = complex(start, start) if theta.is_complex() else start
            state[name] = torch.full_like(theta, fill, dtype=state_dtype(theta, dtype), memory_format=torch.preserve_format)


def without_gaps(state: dict) -> dict:
    """Returns a loaded state without empty dictionaries, which flattened distributed checkpoints contain for absent entries."""
    return {name: value for name, value in state.items() if not isinstance(value, dict) or value}


def check_loaded(group: dict, states: list[dict], required: Collection[str], names: Collection[str], optional: Collection[str], who: str):
    """Raises ValueError if the names in a loaded group are those of another optimizer.

    Args:
        group: the loaded group.
        states: the loaded states of its parameters.
        required: keys that every group of this optimizer has.
        names: names of the state that this optimizer needs.
        optional: names of the state that this optimizer accepts but does not need.
        who: the name of this optimizer.
    """
    missing = [key for key in required if key not in group]
    if missing:
        raise ValueError(f"the loaded state is not of {who}: its groups have no {', '.join(missing)}")
    for state in states:
        foreign = _NAMES.intersection(state) - {"step", *names, *optional}
        lacking = [name for name in ("step", *names) if name not in state and name not in optional]
        if foreign or lacking:
            found, expected = ", ".join(map(str, state)), ", ".join(("step", *names))
            raise ValueError(f"the loaded state is not of {who}: a parameter has {found}; expected {expected}")


def converted(state: dict, theta: Tensor, settings: dict, names: Collection[str]) -> dict:
    """Returns copies of a loaded state on theta's device, in the `state_dtype` of the settings or, without it, without loss of precision.

    Raises:
        ValueError: a value has the wrong type or shape.
    """
    ours = {}
    for name, value in state.items():
        if name == "step":
            ours[name] = torch.as_tensor(value).to(theta.device, torch.float64, copy=True).reshape(())
        elif name not in names:
            ours[name] = value.to(theta.device, copy=True) if isinstance(value, Tensor) else value
        elif not (isinstance(value, Tensor) and value.dtype.is_floating_point != theta.is_complex()):
            raise ValueError(f"the loaded state {name} is invalid: expected a tensor, real or complex like its parameter")
        elif value.shape != theta.shape:
            raise ValueError(f"the loaded state {name} has shape {tuple(value.shape)}, its parameter {tuple(theta.shape)}")
        else:
            dtype = state_dtype(theta, settings["state_dtype"])
            finer = dtype if settings["state_dtype"] else torch.promote_types(dtype, value.dtype)
            ours[name] = value.to(theta.device, finer, copy=True)
    return ours


def matched_by_name(group: dict, own: dict) -> dict:
    """Returns a loaded group with its parameters in the order of the names in `own`, if both have names.

    Raises:
        ValueError: the names differ.
    """
    theirs, ours = group.get("param_names"), own.get("param_names")
    if theirs is None or ours is None or list(theirs) == list(ours) or len(theirs) != len(ours):
        return group
    if differing := sorted(set(ours) ^ set(theirs)):
        raise ValueError(f"the loaded parameters have other names: {', '.join(differing[:4])} exist on one side only")
    numbers = dict(zip(theirs, group["params"], strict=True))
    return {**group, "params": [numbers[name] for name in ours], "param_names": list(ours)}
