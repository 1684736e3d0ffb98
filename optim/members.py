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
        """Handles (operator) with a PerMember: the result is a tensor if an argument is a tensor of parameters, else a PerMember."""
        tensor = next((argument for argument in args if isinstance(argument, Tensor) and argument.ndim), None)
        if tensor is None:  # numbers, also those on a device, such as t
            return PerMember(function(*(argument.values if isinstance(argument, cls) else argument for argument in args)))
        return function(*(argument._like(tensor) if isinstance(argument, cls) else argument for argument in args))

    def _with(self, function, left, right):
        if not all(isinstance(argument, (Tensor, PerMember, int, float)) for argument in (left, right)):
            return NotImplemented  # TensorList handles it
        return self.__torch_function__(function, (), (left, right))


def _define_operators(name: str) -> None:
    function = getattr(operator, name)
    setattr(PerMember, f"__{name}__", lambda self, other: self._with(function, self, other))
    setattr(PerMember, f"__r{name}__", lambda self, other: self._with(function, other, self))


for _name in ("add", "sub", "mul", "truediv", "pow"):
    _define_operators(_name)
