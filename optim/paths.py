"""The paths by which a step moves a parameter, and the choice among them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor

from . import fused_cpu, fused_cuda, tensors
from .plans import ParamPlan, Step
from .trace import STORAGE, Signature

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

NAMES = {tensors.apply_lists: "foreach", tensors.apply_each: "plain"}  # any other is "fused"


def is_tracing() -> bool:
    """Whether somebody records the operations on tensors (torch.compile, make_fx, fake tensors), which compiled code would hide."""
    return torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0


def choose_path(settings: dict, step: Step, stack: list[Tensor]) -> Callable:
    """Returns the function that updates a parameter.

    Args:
        settings: of the parameter's group.
        step: what the parameters of the group have in common.
        stack: the parameter and its state.

    Raises:
        RuntimeError: fused=True is impossible for this parameter.
    """
    theta, state = stack[:2]
    unwanted = settings["fused"] is False or settings["foreach"] or step.differentiable or step.traced
    known = theta.device.type in _DEVICES and {theta.dtype, state.dtype} <= STORAGE.keys()
    if known and not unwanted and _same_layout(stack, step.members):
        stochastic = step.stochastic_rounding and theta.dtype is torch.bfloat16
        letters = tuple(step.hyperparameters)
        path = _compiled(step.rule, len(step.state_names), letters, theta.dtype, state.dtype, stochastic, theta.device)
        if path is not None:
            return path
    if settings["fused"] and not step.traced:
        raise RuntimeError(
            f"fused=True needs a compiler, and parameters that are dense in memory, on a CPU or CUDA device: "
            f"one of shape {tuple(theta.shape)} with strides {theta.stride()} is {theta.dtype} on {theta.device}"
        )
    lists = settings["foreach"] if settings["foreach"] is not None else theta.device.type == "cuda" and not step.differentiable
    return tensors.apply_lists if lists else tensors.apply_each


_DEVICES = ("cpu", "cuda")


@functools.cache
def _compiled(*description) -> Callable | None:
    *fields, device = description
    signature = Signature(*fields)
    return fused_cuda.kernel(signature, device) if device.type == "cuda" else fused_cpu.kernel(signature)


@functools.cache
def with_options(rule: Callable, scaled: bool, maximize: bool, decay: str | None) -> Callable:
    """The rule behind what happens to the gradient, and to theta, before it."""
    if not (scaled or maximize or decay):
        return rule

    def optional(theta, g, *state_and_t, alpha, scale=None, weight_decay=None, **hyperparameters):
        if scaled:
            g = g / scale
        if maximize:
            g = -g
        if decay == "coupled":
            g = g + weight_decay * theta
        if decay == "decoupled":
            theta = theta * (1 - alpha * weight_decay)
        return rule(theta, g, *state_and_t, alpha=alpha, **hyperparameters)

    return optional


def members_of(hyperparameters: dict[str, float | Tensor]) -> torch.Size | None:
    """The shape [members] of hyper-parameters that have a value for each."""
    shapes = {h.shape for h in hyperparameters.values() if isinstance(h, Tensor) and h.ndim}
    if len(shapes) > 1:
        raise ValueError(f"hyper-parameters have {' and '.join(str(len_) for (len_,) in sorted(shapes))} values: one per member each")
    return next(iter(shapes), None)


def _is_distributed(tensor: Tensor) -> TypeGuard[DTensor]:
    return hasattr(tensor, "to_local")  # importing DTensor takes a second


def local(tensor: Tensor) -> Tensor:
    """The numbers that a rule calculates with: the local shard of a DTensor, pairs of real numbers for complex ones."""
    if _is_distributed(tensor):
        tensor = tensor.to_local()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def noise_key(place: int, theta: Tensor) -> int:
    """Seeds the noise of stochastic rounding for the parameter with that place, or for this process's shard of it."""
    if not _is_distributed(theta):
        return place
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    _, offsets = compute_local_shape_and_global_offset(theta.shape, theta.device_mesh, theta.placements)
    first = sum(offset * stride for offset, stride in zip(offsets, theta.stride(), strict=True))
    return (place + 0x9E3779B1 * first) & 0xFFFFFFFF


def _same_layout(stack: list[Tensor], members: torch.Size | None) -> bool:
    """Whether one loop over memory can run over parameter and state."""
    theta, dtype = stack[0], stack[-1].dtype
    if any(x.__class__ not in (Tensor, torch.nn.Parameter) or x.device != theta.device or x.is_neg() or x.is_conj() for x in stack):
        return False  # tensors that only look like numbers in memory, or lie elsewhere
    if any(x.dtype is not dtype for x in stack[1:]):
        return False
    dense = sum((size - 1) * stride for size, stride in zip(theta.shape, theta.stride(), strict=True)) + 1 == theta.numel()
    if not theta.is_contiguous() and (not dense or members is not None):
        return False
    return all(x.shape == theta.shape and (x.stride() == theta.stride() or (x.is_contiguous() and theta.is_contiguous())) for x in stack)


def match_layout(g: Tensor, theta: Tensor, plan: ParamPlan) -> Tensor:
    """The gradient of a parameter as its path takes it: for compiled code, in memory like the parameter.

    Raises:
        ValueError: shape or device are not those of the parameter.
    """
    if _is_distributed(g) and _is_distributed(theta) and g.placements != theta.placements:
        g = g.redistribute(placements=theta.placements)
    g, theta = local(g.resolve_conj()), plan.theta
    if g.shape != theta.shape or g.device != theta.device:
        raise ValueError(
            f"a gradient has shape {tuple(g.shape)} on {g.device}, its parameter {tuple(theta.shape)} on {theta.device}: "
            "they should be alike"
        )
    if plan.path in NAMES:
        return g
    if g.stride() == theta.stride() and g.dtype is theta.dtype and g.__class__ is Tensor and not g.is_neg():
        return g
    return torch.empty_like(theta).copy_(g)
