"""Hyper-parameters with a value for each member of a population."""

from __future__ import annotations

import operator

import torch
from torch import Tensor


class PerMember:
    """One number per member that an update rule can calculate with as if it were a single float.

    Combined with a float or with another PerMember it stays in float64, so that 1 - beta2^t is as exact as in a solo run;
    combined with a tensor of parameters, whose leading axis are the members, it takes the dtype of that tensor. (A plain
    float64 tensor would turn float32 parameters into float64 ones, and float32 cannot hold 1 - 0.9999 to four digits.)

    Args:
        values: shape [members].
        ndim: number of dimensions of the parameters it will meet.
    """

    def __init__(self, values: Tensor, ndim: int):
        self.values = values.to(torch.float64).view(-1, *[1] * (ndim - 1))

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        """Called by torch for tensor (operator) PerMember."""
        dtype = next(argument.dtype for argument in args if isinstance(argument, Tensor))
        return function(*(argument.values.to(dtype) if isinstance(argument, cls) else argument for argument in args))

    def _with(self, other, function, reflected: bool):
        if isinstance(other, Tensor):
            values, ours = other, self.values.to(other.dtype)
        else:
            values, ours = other.values if isinstance(other, PerMember) else other, self.values
        result = function(values, ours) if reflected else function(ours, values)
        return result if isinstance(other, Tensor) else PerMember(result, result.ndim)


def _operators(function):
    return (
        lambda self, other: self._with(other, function, reflected=False),
        lambda self, other: self._with(other, function, reflected=True),
    )


for _name in ("add", "sub", "mul", "truediv", "pow"):
    for _prefix, _method in zip(("__", "__r"), _operators(getattr(operator, _name)), strict=True):
        setattr(PerMember, f"{_prefix}{_name}__", _method)
