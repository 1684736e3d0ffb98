"""Hyper-parameters with one value per member of a population."""

from __future__ import annotations

import operator

import torch
from torch import Tensor


class PerMember:
    """One number per member that update rules use like a single float.

    Operations with numbers or another PerMember stay in float64, so 1 - beta2^t is as exact as in a solo run. Operations with a tensor
    of parameters, whose leading axis is the members, use its dtype. Plain tensors fail: float64 would promote float32 parameters, and
    float32 cannot represent 1 - 0.9999 to four digits.

    Args:
        values: shape [members].
    """

    def __init__(self, values: Tensor):
        self.values = values.to(torch.float64)

    def _like(self, tensor: Tensor) -> Tensor:
        """Returns the values in the tensor's dtype, shaped to broadcast over its leading axis."""
        return self.values.to(tensor.dtype).view(-1, *[1] * (tensor.ndim - 1))

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        """Handles tensor (operator) PerMember."""
        tensor = next(argument for argument in args if isinstance(argument, Tensor))
        if tensor.ndim == 0:  # a number on the device, such as t
            return PerMember(function(*(argument.values if isinstance(argument, cls) else argument for argument in args)))
        return function(*(argument._like(tensor) if isinstance(argument, cls) else argument for argument in args))

    def _with(self, other, function, reflected: bool):
        if not isinstance(other, (Tensor, PerMember, int, float)):
            return NotImplemented  # TensorList handles it
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
