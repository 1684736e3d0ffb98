"""The settings of a parameter group in one step (`Step`), and the cached layout and path of each parameter (`ParamPlan`)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)


class ParamPlan:
    """The cached layout and path of one parameter.

    Between steps a plan holds addresses, never tensors, so memory that the user releases is freed at once.

    Attributes:
        path: the function that updates the parameter.
        simple: whether the path is compiled and the parameter is an ordinary contiguous tensor. Other plans last for one step.
        size: number of elements (on compiled paths, like addresses and row).
        addresses: of step, theta and state.
        row: size, members, key and addresses as 8-byte integers for `optim.fused_cpu`, which appends the gradient's address.
        key: seed of stochastic rounding; distinct for each parameter of the optimizer and each shard of a DTensor.
        state: the parameter's entry in `optimizer.state`. This and the following are set during a step only.
        theta: the parameter; complex numbers as pairs of real ones, a DTensor as its local shard. The same holds for g and tensors.
        tensors: the state, in the order of the rule.
        g: the gradient.
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
        """Holds parameter and state for a step; returns False if they have been replaced or moved since the plan was made."""
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
        """Returns whether compiled code can read the gradient without conversion."""
        if not self.simple or g.__class__ is not Tensor or g.dtype is not self.dtype or g.shape != self.shape:
            return False
        return g.is_contiguous() and g.device == self.device and not g.is_neg()

    @property
    def operands(self) -> list[Tensor]:
        """theta, g and the state; half precision as float32."""
        return [tensor.to(torch.float32) if tensor.dtype in HALF else tensor for tensor in (self.theta, self.g, *self.tensors)]


def give_back(by_path: dict[Callable, list[ParamPlan]]) -> None:
    """Releases parameters, states and gradients after a step."""
    for plans in by_path.values():
        for plan in plans:
            del plan.theta, plan.tensors, plan.state, plan.g


@dataclass
class Step:
    """The settings of a parameter group in one step.

    Attributes:
        rule: (theta, g, *state, t, **hyperparameters) -> (theta, *state).
        state_names: the keys of the state.
        hyperparameters: arguments of the rule by name: numbers, or tensors of shape [] or [members].
        members: shape [members] of the hyper-parameters with one value per member; None: there are none.
        numbers: whether all hyper-parameters are known to be numbers.
        traced: whether operations are recorded, which makes t a tensor; see `paths.is_tracing`.
        capturable: whether t stays on the device.
        differentiable: whether state is replaced instead of overwritten, because autograd may have saved it.
        stochastic_rounding: whether bfloat16 parameters are rounded at random.
        found_inf: nonzero skips the step; on the device, shape []. None: the step is not skipped.
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
        """Returns the hyper-parameters, with tensors in float64 on the device."""
        if self.numbers:
            return self.hyperparameters
        return {
            letter: h.to(device, torch.float64).contiguous() if isinstance(h, Tensor) else h for letter, h in self.hyperparameters.items()
        }

    def count(self, plans: list[ParamPlan], on_device: bool = False) -> list[float | Tensor]:
        """Increments t unless the step is skipped. Returns each parameter's t: a number, or a float64 tensor of shape []."""
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
