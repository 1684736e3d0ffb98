"""Hyper-parameters with a value for each member of a population."""

from __future__ import annotations

import operator

import torch
from torch import Tensor


class PerMember:
    """One number per member that an update rule can calculate with as if it were a single float.

    Combined with a number or with another PerMember it stays in float64, so that 1 - beta2^t is as exact as in a solo run;
    combined with a tensor of parameters, whose leading axis are the members, it takes the dtype of that tensor. (A plain
    float64 tensor would turn float32 parameters into float64 ones, and float32 cannot hold 1 - 0.9999 to four digits.)

    Args:
        values: shape [members].
    """

    def __init__(self, values: Tensor):
        self.values = values.to(torch.float64)

    def _like(self, tensor: Tensor) -> Tensor:
        """The values in the dtype of a tensor of parameters, shaped so that they broadcast."""
        return self.values.to(tensor.dtype).view(-1, *[1] * (tensor.ndim - 1))

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        """Called by torch for tensor (operator) PerMember."""
        tensor = next(argument for argument in args if isinstance(argument, Tensor))
        if tensor.ndim == 0:  # a number that lies on the device, such as t
            return PerMember(function(*(argument.values if isinstance(argument, cls) else argument for argument in args)))
        return function(*(argument._like(tensor) if isinstance(argument, cls) else argument for argument in args))

    def _with(self, other, function, reflected: bool):
        if not isinstance(other, (Tensor, PerMember, int, float)):
            return NotImplemented  # a list of tensors knows what to do
        if isinstance(other, Tensor) and other.ndim:
            return function(other, self._like(other)) if reflected else function(self._like(other), other)
        number = other.values if isinstance(other, PerMember) else other
        return PerMember(function(number, self.values) if reflected else function(self.values, number))


def _operators(function):
    return (
        lambda self, other: self._with(other, function, reflected=False),
        lambda self, other: self._with(other, function, reflected=True),
    )


for _name in ("add", "sub", "mul", "truediv", "pow"):
    for _prefix, _method in zip(("__", "__r"), _operators(getattr(operator, _name)), strict=True):
        setattr(PerMember, f"{_prefix}{_name}__", _method)
