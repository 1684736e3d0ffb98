"""The choice of the path on which a step updates a parameter."""

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
    """Returns whether torch.compile, make_fx, fake tensors or another dispatch mode must see each operation; compiled code hides them."""
    return torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0


def choose_path(settings: dict, step: Step, stack: list[Tensor]) -> Callable:
    """Returns the function that updates a parameter.

    Args:
        settings: see `RuleOptimizer.settings`.
        step: the group's settings in this step.
        stack: the parameter and its state.

    Raises:
        RuntimeError: fused=True is impossible for this parameter.
    """
    theta, state = stack[:2]
    unwanted = settings["fused"] is False or settings["foreach"] or step.differentiable or step.traced
    known = theta.device.type in ("cpu", "cuda") and {theta.dtype, state.dtype} <= STORAGE.keys()
    if known and not unwanted and _same_layout(stack, step.members):
        stochastic = step.stochastic_rounding and theta.dtype is torch.bfloat16
        letters = tuple(step.hyperparameters)
        path = _compiled(step.rule, len(step.state_names), letters, theta.dtype, state.dtype, stochastic, theta.device)
        if path is not None:
            return path
    if settings["fused"] and not step.traced:
        raise RuntimeError(
            f"fused=True needs a compiler, and dense parameters on a CPU or CUDA device: "
            f"one of shape {tuple(theta.shape)} with strides {theta.stride()} is {theta.dtype} on {theta.device}"
        )
    lists = settings["foreach"] if settings["foreach"] is not None else theta.device.type == "cuda" and not step.differentiable
    return tensors.apply_lists if lists else tensors.apply_each


@functools.cache
def _compiled(*description) -> Callable | None:
    *fields, device = description
    signature = Signature(*fields)
    return fused_cuda.kernel(signature, device) if device.type == "cuda" else fused_cpu.kernel(signature)


@functools.cache
def with_options(rule: Callable, scaled: bool, maximize: bool, decay: str | None) -> Callable:
    """Returns the rule preceded by unscaling and negation of the gradient and by weight decay, each if requested."""
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
    """Returns the shape [members] of hyper-parameters with one value per member; None: there are none.

    Raises:
        ValueError: two hyper-parameters have different numbers of members.
    """
    shapes = {h.shape for h in hyperparameters.values() if isinstance(h, Tensor) and h.ndim}
    if len(shapes) > 1:
        raise ValueError(f"hyper-parameters have {' and '.join(str(len_) for (len_,) in sorted(shapes))} values: expected one per member")
    return next(iter(shapes), None)


def _is_distributed(tensor: Tensor) -> TypeGuard[DTensor]:
    return hasattr(tensor, "to_local")  # importing DTensor takes a second


def local(tensor: Tensor) -> Tensor:
    """Returns the tensor that a rule computes with: the local shard of a DTensor, complex numbers as pairs of real ones."""
    if _is_distributed(tensor):
        tensor = tensor.to_local()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def noise_key(place: int, theta: Tensor) -> int:
    """Returns the seed of stochastic rounding for the parameter at this place in the optimizer, or for the local shard of a DTensor."""
    if not _is_distributed(theta):
        return place
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    _, offsets = compute_local_shape_and_global_offset(theta.shape, theta.device_mesh, theta.placements)
    first = sum(offset * stride for offset, stride in zip(offsets, theta.stride(), strict=True))
    return (place + 0x9E3779B1 * first) & 0xFFFFFFFF


def _same_layout(stack: list[Tensor], members: torch.Size | None) -> bool:
    """Returns whether one loop over memory can update parameter and state."""
    theta, dtype = stack[0], stack[-1].dtype
    if any(x.__class__ not in (Tensor, torch.nn.Parameter) or x.device != theta.device or x.is_neg() or x.is_conj() for x in stack):
        return False  # memory does not hold the plain values, or is on another device
    if any(x.dtype is not dtype for x in stack[1:]):
        return False
    dense = sum((size - 1) * stride for size, stride in zip(theta.shape, theta.stride(), strict=True)) + 1 == theta.numel()
    if not theta.is_contiguous() and (not dense or members is not None):
        return False
    return all(x.shape == theta.shape and (x.stride() == theta.stride() or (x.is_contiguous() and theta.is_contiguous())) for x in stack)


def match_layout(g: Tensor, theta: Tensor, plan: ParamPlan) -> Tensor:
    """Returns the gradient as the parameter's path needs it: for compiled code, in the parameter's memory layout and dtype.

    Raises:
        ValueError: the parameter has another shape or device.
    """
    if _is_distributed(g) and _is_distributed(theta) and g.placements != theta.placements:
        g = g.redistribute(placements=theta.placements)
    g, theta = local(g.resolve_conj()), plan.theta
    if g.shape != theta.shape or g.device != theta.device:
        raise ValueError(
            f"a gradient has shape {tuple(g.shape)} on {g.device}, its parameter {tuple(theta.shape)} on {theta.device}: expected the same"
        )
    if plan.path in NAMES:
        return g
    if g.stride() == theta.stride() and g.dtype is theta.dtype and g.__class__ is Tensor and not g.is_neg():
        return g
    return torch.empty_like(theta).copy_(g)
