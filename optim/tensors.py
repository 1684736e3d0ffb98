"""The paths without a compiler: plain, one parameter after another, and foreach, on lists of tensors."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from .members import PerMember
from .plans import ParamPlan, Step


def apply_each(step: Step, plans: list[ParamPlan]) -> None:
    """Increments t and updates theta and state, one parameter after another."""
    for plan, t in zip(plans, step.count(plans), strict=True):
        operands = plan.operands
        if step.differentiable:
            operands[0] = operands[0].clone()
        _store(step, plan, t, step.rule(*operands, t, **_values(step, operands[0].device)))


def apply_lists(step: Step, plans: list[ParamPlan]) -> None:
    """Increments t and updates theta and state of all parameters together; an operation of the rule takes one launch or a few."""
    groups = defaultdict(list)
    for plan, t in zip(plans, step.count(plans), strict=True):
        groups[plan.theta.device, plan.theta.dtype, None if isinstance(t, Tensor) else t].append((plan, t))
    for (device, _, number), pairs in groups.items():
        columns = zip(*(plan.operands for plan, _ in pairs), strict=True)
        times = TensorList([t for _, t in pairs]) if number is None else number
        results = step.rule(*map(TensorList, columns), times, **_values(step, device))
        for (plan, t), *values in zip(pairs, *(result.tensors for result in results), strict=True):
            _store(step, plan, t, values)


def _store(step: Step, plan: ParamPlan, t: float | Tensor, results: Sequence[Tensor]) -> None:
    theta = plan.theta
    new_theta, *new_state = results
    if step.stochastic_rounding and theta.dtype is torch.bfloat16:
        new_theta = round_at_random(new_theta, t, plan.key, theta.stride())
    for name, old, new in zip((None, *step.state_names), (theta, *plan.tensors), (new_theta, *new_state), strict=True):
        if step.found_inf is not None:
            new = torch.where(step.found_inf.to(old.device) == 0, new, old)
        if step.differentiable and name:
            plan.state[name] = torch.view_as_complex(new) if plan.state[name].is_complex() else new.to(old.dtype)
        else:
            old.copy_(new)


def round_at_random(values: Tensor, t: float | Tensor, key: int, stride: tuple[int, ...]) -> Tensor:
    """Returns float32 values rounded to bfloat16, up or down at random without bias.

    The random bits are a function of t, the parameter's key and the element's position: in memory if `stride` is dense, else in the
    shape. Runs can therefore be repeated and resumed on any path. `optim.trace` has the same function in C.
    """
    numbers = torch.arange(values.numel(), device=values.device)
    dense = sum((size - 1) * step for size, step in zip(values.shape, stride, strict=True)) + 1 == values.numel()
    numbers = numbers.as_strided(values.shape, stride) if dense else numbers.view(values.shape)
    bits = values.contiguous().view(torch.int32).to(torch.int64) & 0xFFFFFFFF
    t = t.to(values.device, torch.int64) if isinstance(t, Tensor) else torch.tensor(int(t), device=values.device)
    noise = _mix(numbers ^ _mix((t * 0x9E3779B9 + key) & 0xFFFFFFFF)) & 0xFFFF
    rounded = ((bits + noise) & 0xFFFF0000).to(torch.int32).view(torch.float32)
    return torch.where(values.isfinite(), rounded, values).to(torch.bfloat16)


def _mix(x: Tensor) -> Tensor:
    """Hashes 32-bit integers, held in int64."""
    x = ((x ^ x >> 16) * 0x21F0AAAD) & 0xFFFFFFFF
    x = ((x ^ x >> 15) * 0x735A2D97) & 0xFFFFFFFF
    return x ^ x >> 15


def _values(step: Step, device: torch.device) -> dict:
    """Returns the hyper-parameters on the device, those with one value per member as PerMember."""
    return {letter: PerMember(h) if isinstance(h, Tensor) and h.ndim else h for letter, h in step.hyperparameters_on(device).items()}


class TensorList:
    """Tensors that update rules use like a single one."""

    def __init__(self, tensors):
        self.tensors = list(tensors)

    def sqrt(self) -> TensorList:  # noqa: D102
        return TensorList(torch._foreach_sqrt(self.tensors))

    def abs(self) -> TensorList:  # noqa: D102
        return TensorList(torch._foreach_abs(self.tensors))

    def __neg__(self) -> TensorList:
        return TensorList(torch._foreach_neg(self.tensors))

    def __eq__(self, other) -> TensorList:  # type: ignore[override]  # element by element, as of tensors
        return TensorList([tensor == other for tensor in self.tensors])

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        """Handles torch.maximum, torch.where and tensor (operator) TensorList."""
        lists = [argument.tensors for argument in args if isinstance(argument, cls)]
        if function is torch.maximum and len(lists) == 2:
            return cls(torch._foreach_maximum(*lists))
        return cls([function(*(next(values) if isinstance(a, cls) else a for a in args)) for values in map(iter, zip(*lists, strict=True))])

    def _with(self, other, name: str, reflected: bool):
        """Returns self (operator) other, or other (operator) self if reflected; in one call for the whole list where torch has one."""
        number = isinstance(other, (int, float))
        if self._plain and (number or (isinstance(other, TensorList) and other._plain)):
            if number and reflected:
                if name == "pow":
                    return TensorList(torch._foreach_pow(float(other), self.tensors))
                if name == "sub":
                    return -self + other
                if name == "div":
                    return TensorList([other / tensor for tensor in self.tensors])
            return TensorList(getattr(torch, f"_foreach_{name}")(self.tensors, other if number else other.tensors))
        function = getattr(operator, {"div": "truediv"}.get(name, name))
        others = other.tensors if isinstance(other, TensorList) else [other] * len(self.tensors)
        pairs = zip(others, self.tensors, strict=True) if reflected else zip(self.tensors, others, strict=True)
        return TensorList([function(left, right) for left, right in pairs])

    @property
    def _plain(self) -> bool:
        """Whether the list holds tensors only, no PerMember."""
        return all(isinstance(tensor, Tensor) for tensor in self.tensors)


for _method, _foreach in {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "pow": "pow"}.items():
    setattr(TensorList, f"__{_method}__", lambda self, other, _name=_foreach: self._with(other, _name, reflected=False))
    setattr(TensorList, f"__r{_method}__", lambda self, other, _name=_foreach: self._with(other, _name, reflected=True))
