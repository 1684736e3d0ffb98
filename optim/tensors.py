"""Update rules on tensors, without a compiler: one parameter after another, or all of them as lists."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from optim.members import PerMember

HALF = (torch.bfloat16, torch.float16)


@dataclass(slots=True, eq=False)
class Entry:
    """A parameter on its way through a step.

    Attributes:
        place: its number among the parameters of the optimizer.
        theta: the parameter; a complex one as pairs of real ones, like its gradient and its state.
        tensors: its state, in the order of the rule.
        state: where the state is kept, and the number of its steps, t.
        path: what moves it.
        simple: whether compiled code moves it, and it is real and contiguous.
        g: the gradient, during a step.
        addresses: of theta and the state.
        size: number of elements.
        shape: of theta and the state, when this was written down.
        dtype: of theta.
        state_dtype: of the state.
        device: of theta.
    """

    place: int
    theta: Tensor
    tensors: list[Tensor]
    state: dict
    path: Callable
    simple: bool
    g: Tensor | None = None
    addresses: list[int] = field(init=False)
    size: int = field(init=False)
    shape: torch.Size = field(init=False)
    dtype: torch.dtype = field(init=False)
    state_dtype: torch.dtype = field(init=False)
    device: torch.device = field(init=False)

    def __post_init__(self):
        self.addresses = [tensor.data_ptr() for tensor in (self.theta, *self.tensors)]
        self.size, self.shape, self.device = self.theta.numel(), self.theta.shape, self.theta.device
        self.dtype, self.state_dtype = self.theta.dtype, self.tensors[0].dtype

    def stands_for(self, theta: Tensor, state: dict, names: tuple[str, ...]) -> bool:
        """Whether this still describes a parameter and its state; either may have been given other data meanwhile."""
        if not (self.simple and state is self.state and theta.data_ptr() == self.addresses[0]):
            return False
        for name, tensor, address in zip(names, self.tensors, self.addresses[1:], strict=True):
            if state.get(name) is not tensor or tensor.data_ptr() != address or tensor.dtype is not self.state_dtype:
                return False
            if tensor.shape != self.shape or not tensor.is_contiguous() or tensor.is_neg():
                return False
        return theta.shape == self.shape and theta.dtype is self.dtype and theta.is_contiguous()

    @property
    def operands(self) -> list[Tensor]:
        """theta, g and the state, in a dtype to calculate in."""
        return [tensor.to(torch.float32) if tensor.dtype in HALF else tensor for tensor in (self.theta, self.g, *self.tensors)]


@dataclass
class Step:
    """What the parameters of a group have in common in a step.

    Attributes:
        rule: (theta, g, *state, t, **letters) -> (theta, *state).
        state_names: the keys of the state.
        letters: the hyper-parameters: numbers, tensors of shape [] or, with one value per member, [members].
        capturable: t is kept on the device.
        differentiable: state is replaced, not overwritten: what autograd has saved stays as it was.
        stochastic_rounding: of parameters in bfloat16.
        found_inf: not 0 where the step is to be left out, on the device, shape [].
    """

    rule: Callable[..., tuple[Tensor, ...]]
    state_names: tuple[str, ...]
    letters: dict[str, float | Tensor]
    capturable: bool = False
    differentiable: bool = False
    stochastic_rounding: bool = False
    found_inf: Tensor | None = None

    def letters_on(self, device: torch.device) -> dict[str, float | Tensor]:
        """The hyper-parameters, tensors among them on that device and in float64."""
        return {letter: h.to(device, torch.float64).contiguous() if isinstance(h, Tensor) else h for letter, h in self.letters.items()}

    def count(self, entries: list[Entry], on_device: bool = False) -> list[int | Tensor]:
        """Counts the step, unless it is left out, and returns each parameter's t: a number, or a float64 tensor on the device."""
        on_device = on_device or self.capturable or self.found_inf is not None
        held = []
        for entry in entries:
            state = entry.state
            t = state["t"]
            if isinstance(t, Tensor):
                t = state["t"] = t.to(entry.theta.device, torch.float64)
            elif on_device:
                t = state["t"] = torch.full((), float(t), dtype=torch.float64, device=entry.theta.device)
            if not isinstance(t, Tensor) or self.differentiable:  # autograd may have saved it
                state["t"] = t + 1
            else:
                held.append(t)
        if held and self.found_inf is None:
            torch._foreach_add_(held, 1)
        for device in {t.device for t in held} if self.found_inf is not None else ():
            moves = (self.found_inf == 0).to(device, torch.float64)
            torch._foreach_add_([t for t in held if t.device == device], moves)
        return [entry.state["t"] for entry in entries]


def apply_each(step: Step, entries: list[Entry]) -> None:
    """Replaces theta and state by what the rule makes of them, one parameter after another."""
    for entry, t in zip(entries, step.count(entries), strict=True):
        operands = entry.operands
        if step.differentiable:
            operands[0] = operands[0].clone()
        _store(step, entry, t, step.rule(*operands, t, **_values(step, operands[0].device)))


def apply_lists(step: Step, entries: list[Entry]) -> None:
    """The same on lists of tensors: an operation of the rule is a launch or a few for all parameters."""
    alike = defaultdict(list)
    for entry, t in zip(entries, step.count(entries), strict=True):
        alike[entry.theta.device, entry.theta.dtype, None if isinstance(t, Tensor) else t].append((entry, t))
    for (device, _, number), pairs in alike.items():
        columns = zip(*(entry.operands for entry, _ in pairs), strict=True)
        t = TensorList([t for _, t in pairs]) if number is None else number
        results = step.rule(*map(TensorList, columns), t, **_values(step, device))
        for (entry, t), *values in zip(pairs, *(result.tensors for result in results), strict=True):
            _store(step, entry, t, values)


def _store(step: Step, entry: Entry, t: int | Tensor, results: list[Tensor]) -> None:
    theta = entry.theta
    new_theta, *new_state = results
    if step.stochastic_rounding and theta.dtype is torch.bfloat16:
        new_theta = round_at_random(new_theta, t, entry.place, theta.stride())
    for name, old, new in zip((None, *step.state_names), (theta, *entry.tensors), (new_theta, *new_state), strict=True):
        if step.found_inf is not None:
            new = torch.where(step.found_inf.to(old.device) == 0, new, old)
        if step.differentiable and name:
            entry.state[name] = torch.view_as_complex(new) if entry.state[name].is_complex() else new.to(old.dtype)
        else:
            old.copy_(new)


def round_at_random(values: Tensor, t: int | Tensor, place: int, stride: tuple[int, ...]) -> Tensor:
    """float32 rounded to bfloat16, up or down with the probability that makes it right on average.

    The random bits are a function of the element's number (in memory, as `stride` says, where that is dense), of t and of the
    parameter's place, so that a run can be repeated and resumed, on any path: `optim.trace` has the same in C.
    """
    numbers = torch.arange(values.numel(), device=values.device)
    dense = sum((size - 1) * step for size, step in zip(values.shape, stride, strict=True)) + 1 == values.numel()
    numbers = numbers.as_strided(values.shape, stride) if dense else numbers.view(values.shape)
    bits = values.contiguous().view(torch.int32).to(torch.int64) & 0xFFFFFFFF
    t = t.to(torch.int64) if isinstance(t, Tensor) else torch.tensor(t, device=values.device)
    key = _mix((t * 0x9E3779B9 + place) & 0xFFFFFFFF)
    noise = _mix(numbers ^ key) & 0xFFFF
    rounded = ((bits + noise) & 0xFFFF0000).to(torch.int32).view(torch.float32)
    return torch.where(values.isfinite(), rounded, values).to(torch.bfloat16)


def _mix(x: Tensor) -> Tensor:
    """Scrambles 32-bit integers, held in int64."""
    x = ((x ^ x >> 16) * 0x21F0AAAD) & 0xFFFFFFFF
    x = ((x ^ x >> 15) * 0x735A2D97) & 0xFFFFFFFF
    return x ^ x >> 15


def _values(step: Step, device: torch.device) -> dict:
    """The hyper-parameters as a rule on tensors takes them."""
    return {letter: PerMember(h) if isinstance(h, Tensor) and h.ndim else h for letter, h in step.letters_on(device).items()}


class TensorList:
    """Tensors that an update rule can calculate with as if they were one."""

    def __init__(self, tensors):
        self.tensors = list(tensors)

    def sqrt(self) -> TensorList:  # noqa: D102
        return TensorList(torch._foreach_sqrt(self.tensors))

    def abs(self) -> TensorList:  # noqa: D102
        return TensorList(torch._foreach_abs(self.tensors))

    def __neg__(self) -> TensorList:
        return TensorList(torch._foreach_neg(self.tensors))

    def __eq__(self, other) -> TensorList:
        return TensorList([tensor == other for tensor in self.tensors])

    __hash__ = None

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        """Called for torch.maximum and torch.where, and for tensor (operator) TensorList."""
        lists = [argument.tensors for argument in args if isinstance(argument, cls)]
        if function is torch.maximum and len(lists) == 2:
            return cls(torch._foreach_maximum(*lists))
        return cls([function(*(next(values) if isinstance(a, cls) else a for a in args)) for values in map(iter, zip(*lists, strict=True))])

    def _with(self, other, name: str, reflected: bool):
        """self (operator) other, or the other way round: as one call for the whole list where torch has that."""
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
        """Whether these are tensors all, not numbers per member."""
        return all(isinstance(tensor, Tensor) for tensor in self.tensors)


for _method, _foreach in {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "pow": "pow"}.items():
    setattr(TensorList, f"__{_method}__", lambda self, other, _name=_foreach: self._with(other, _name, reflected=False))
    setattr(TensorList, f"__r{_method}__", lambda self, other, _name=_foreach: self._with(other, _name, reflected=True))
