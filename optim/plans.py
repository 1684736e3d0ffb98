"""What a step knows about a group of parameters (`Step`) and about each of them (`ParamPlan`)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)


class ParamPlan:
    """The cached layout and path of one parameter.

    A plan that outlives a step holds addresses, never tensors: what the user drops or moves away is freed at once.

    Attributes:
        path: the function that updates it.
        simple: whether compiled code moves it, and it is an ordinary contiguous tensor. Others are planned anew in every step.
        size: (for compiled code, like addresses and row) number of elements.
        addresses: of step, theta and state.
        row: what `optim.fused_cpu` reads of it, but for the gradient's address: size, members, key and addresses, each in 8 bytes.
        key: seeds the noise of stochastic rounding; distinct for every parameter of the optimizer and every shard of it.
        state: its entry in `optimizer.state`, during a step only, as all that follow.
        theta: the parameter; a complex one as pairs of real ones, a distributed one as its local shard, like its gradient and state.
        tensors: its state in the order of the rule.
        g: its gradient.
    """

    __slots__ = (
        "addresses", "device", "dtype", "g", "key", "path", "row", "shape", "simple", "size", "state", "state_dtype", "tensors", "theta",
    )  # fmt: skip

    g: Tensor

    def __init__(
        self, path: Callable, key: int, members: int, theta: Tensor, tensors: list[Tensor], state: dict, compiled: bool, simple: bool
    ):
        self.path, self.key, self.theta, self.tensors, self.state = path, key, theta, tensors, state
        self.shape, self.dtype, self.device, self.state_dtype = theta.shape, theta.dtype, theta.device, tensors[0].dtype
        self.simple = compiled and simple
        if compiled:
            self.size, self.addresses = theta.numel(), [x.data_ptr() for x in (state["step"], theta, *tensors)]
            self.row = struct.pack(f"{3 + len(self.addresses)}q", self.size, members, key, *self.addresses)

    def borrow(self, theta: Tensor, state: dict, names: tuple[str, ...]) -> bool:
        """Takes parameter and state for a step, if the plan still describes them: either may lie elsewhere by now."""
        if not self.simple or theta.shape != self.shape or theta.dtype is not self.dtype or not theta.is_contiguous():
            return False
        step, shape, dtype, addresses = state.get("step"), self.shape, self.state_dtype, self.addresses
        tensors: list[Tensor] = []
        if step.__class__ is not Tensor or step.dtype is not torch.float64:
            return False
        if step.data_ptr() != addresses[0] or theta.data_ptr() != addresses[1]:
            return False
        for name in names:
            tensor = state.get(name)
            if tensor.__class__ is not Tensor or tensor.dtype is not dtype or tensor.shape != shape:
                return False
            if tensor.data_ptr() != addresses[len(tensors) + 2] or not tensor.is_contiguous() or tensor.is_neg():
                return False
            tensors.append(tensor)
        self.theta, self.tensors, self.state = theta, tensors, state
        return True

    def takes(self, g: Tensor) -> bool:
        """Whether compiled code can read a gradient as it is."""
        if not self.simple or g.__class__ is not Tensor or g.dtype is not self.dtype or g.shape != self.shape:
            return False
        return g.is_contiguous() and g.device == self.device and not g.is_neg()

    @property
    def operands(self) -> list[Tensor]:
        """theta, g and the state, in a dtype to calculate in."""
        return [tensor.to(torch.float32) if tensor.dtype in HALF else tensor for tensor in (self.theta, self.g, *self.tensors)]


def give_back(by_path: dict[Callable, list[ParamPlan]]) -> None:
    """Lets go of parameters, states and gradients after a step."""
    for plans in by_path.values():
        for plan in plans:
            del plan.theta, plan.tensors, plan.state, plan.g


@dataclass
class Step:
    """What the parameters of a group have in common in a step.

    Attributes:
        rule: (theta, g, *state, t, **hyperparameters) -> (theta, *state).
        state_names: the keys of the state.
        hyperparameters: by the letters of the rule: numbers, tensors of shape [] or, with one value per member, [members].
        members: shape of the hyper-parameters with one value per member; None: there are none.
        numbers: whether all hyper-parameters are known to be numbers.
        traced: somebody records the operations on tensors, t among them; see `paths.is_tracing`.
        capturable: t is kept on the device.
        differentiable: state is replaced, not overwritten: what autograd has saved stays as it was.
        stochastic_rounding: of parameters in bfloat16.
        found_inf: not 0 where the step is to be left out, on the device, shape [].
    """

    rule: Callable[..., tuple]
    state_names: tuple[str, ...]
    hyperparameters: dict[str, float | Tensor]
    members: torch.Size | None = None
    numbers: bool = False
    traced: bool = False
    capturable: bool = False
    differentiable: bool = False
    stochastic_rounding: bool = False
    found_inf: Tensor | None = None

    def hyperparameters_on(self, device: torch.device) -> dict[str, float | Tensor]:
        """The hyper-parameters, tensors among them on that device and in float64."""
        if self.numbers:
            return self.hyperparameters
        return {
            letter: h.to(device, torch.float64).contiguous() if isinstance(h, Tensor) else h for letter, h in self.hyperparameters.items()
        }

    def count(self, plans: list[ParamPlan], on_device: bool = False) -> list[float | Tensor]:
        """Counts the step, unless it is left out, and returns each parameter's t: a number, or a float64 tensor of shape []."""
        on_device = on_device or self.capturable or self.found_inf is not None
        if on_device:
            for plan in plans:
                plan.state["step"] = plan.state["step"].to(plan.theta.device)
        if self.differentiable:  # autograd may have saved t
            for plan in plans:
                plan.state["step"] = plan.state["step"] + 1
        steps = [plan.state["step"] for plan in plans]
        if self.found_inf is not None:
            for device in {step.device for step in steps}:
                counts = (self.found_inf == 0).to(device, torch.float64)
                torch._foreach_add_([step for step in steps if step.device == device], counts)
        elif not self.differentiable:
            torch._foreach_add_(steps, 1)
        return [step.reshape(()) if on_device or self.traced or step.device.type != "cpu" else step.item() for step in steps]
