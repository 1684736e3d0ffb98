"""The machine that runs every update rule of this package.

A rule is a pure function of tensors that reads like the paper's pseudo-code::

    rule(theta, g, *state, t, *hyperparameters) -> (theta, *state)

It is written for one model and knows nothing of parameter groups, gradients or storage. `RuleOptimizer` is the
`torch.optim.Optimizer` that holds the state and applies the rule: on a CPU compiled to one loop (`optim.fused`), elsewhere as
it stands. Each subclass names its rule, its state and its hyper-parameters, and adds nothing else.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from optim import fused
from optim.members import PerMember

# A hyper-parameter: one number, or one value per member of a population (shape [members]).
Hyperparameter = float | Tensor

_UNIT_INTERVAL = ("beta1", "beta2", "rho", "momentum")


class RuleOptimizer(torch.optim.Optimizer):
    """Applies a pure update rule to every parameter that has a gradient.

    Any hyper-parameter may be a tensor of shape [members]. The parameters then hold that many models stacked along their
    leading axis, and each member is updated with its own value, exactly as if it were trained alone. (torch's schedulers take
    a learning rate that is one number only; `optim.InverseSqrt` takes both.)

    Args:
        params: parameters, or groups of them.
        fused: whether steps run as compiled code in one pass over memory (see `optim.fused`): None where that can be, True
            always, False never. The numbers agree to rounding.
        hyperparameters: defaults for groups that do not have their own.

    Raises:
        ValueError: a hyper-parameter is out of range, or there is not one value for each member.
        TypeError: a hyper-parameter is no number and no tensor.
        RuntimeError: a gradient is sparse, or fused=True cannot be had.
    """

    rule: ClassVar[Callable[..., tuple[Tensor, ...]]]
    state_names: ClassVar[tuple[str, ...]]
    hyperparameters: ClassVar[tuple[str, ...]]

    def __init__(self, params, *, fused: bool | None, **hyperparameters: Hyperparameter):
        super().__init__(params, {**hyperparameters, "fused": fused})

    def add_param_group(self, param_group: dict) -> None:
        """Adds a group of parameters, after checking its hyper-parameters (torch calls this for the first groups too)."""
        for name in self.hyperparameters:
            _check(name, param_group.get(name, self.defaults[name]))
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Makes one step of the rule; returns the closure's loss, if a closure is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            thetas = [theta for theta in group["params"] if theta.grad is not None]
            self._update(thetas, [group[name] for name in self.hyperparameters], group["fused"])
        return loss

    def _update(self, thetas: list[Tensor], hyperparameters: list[Hyperparameter], choice: bool | None) -> None:
        """Applies the rule to the parameters of one group: to all that can be with one call of the compiled rule."""
        if any(_is_per_member(h) for h in hyperparameters):
            _check_members(thetas, hyperparameters)
        together = defaultdict(list)  # for each compiled rule, one per dtype
        for theta in thetas:
            tensors, t = self._advance(theta)
            kernel = None if choice is False else self._kernel(tensors, hyperparameters)
            if kernel is not None:
                together[kernel].append((tensors, t))
            elif choice:
                raise RuntimeError(
                    f"fused=True needs a C compiler and dense float32 or float64 parameters and gradients on the CPU, alike in layout; "
                    f"a parameter of shape {tuple(theta.shape)} is {theta.dtype} on {theta.device}"
                )
            else:
                _apply(type(self).rule, tensors, t, hyperparameters)
        for kernel, parameters in together.items():
            fused.apply(kernel, parameters, hyperparameters)

    def _kernel(self, tensors: list[Tensor], hyperparameters: list[Hyperparameter]) -> Callable | None:
        """The compiled rule, if there is one for these tensors."""
        if not fused.can_take(tensors, any(_is_per_member(h) for h in hyperparameters)):
            return None
        return fused.kernel(type(self).rule, len(self.state_names), len(hyperparameters), tensors[0].dtype)

    def _advance(self, theta: Tensor) -> tuple[list[Tensor], int]:
        """[theta, g, *state] and the number t of the coming step."""
        if theta.grad.is_sparse:
            raise RuntimeError(f"{type(self).__name__} takes dense gradients, got a sparse one of shape {tuple(theta.shape)}")
        state = self.state[theta]
        if not state:
            state["t"] = 0
            for name in self.state_names:
                state[name] = torch.zeros_like(theta, memory_format=torch.preserve_format)
        state["t"] += 1
        return [theta, theta.grad, *(state[name] for name in self.state_names)], state["t"]


def _apply(rule: Callable, tensors: list[Tensor], t: int, hyperparameters: list[Hyperparameter]) -> None:
    """Replaces tensors = [theta, g, *state] by the rule's result, except for g."""
    theta, _, *state = tensors
    values = [PerMember(h.to(theta.device), theta.ndim) if _is_per_member(h) else h for h in hyperparameters]
    new_theta, *new_state = rule(*tensors, t, *values)
    theta.copy_(new_theta)
    for old, new in zip(state, new_state, strict=True):
        old.copy_(new)


def _is_per_member(h: Hyperparameter) -> bool:
    return isinstance(h, Tensor) and h.ndim > 0


def _check_members(thetas: list[Tensor], hyperparameters: list[Hyperparameter]) -> None:
    for theta, h in itertools.product(thetas, filter(_is_per_member, hyperparameters)):
        if h.shape != theta.shape[:1]:
            raise ValueError(
                f"a hyper-parameter has {len(h)} values, one per member, but a parameter of shape {tuple(theta.shape)} is not such a stack"
            )


def _check(name: str, value: Hyperparameter) -> None:
    if not isinstance(value, (int, float, Tensor)):
        raise TypeError(f"{name}={value!r} should be a number, or a tensor with one value per member")
    low, high = (value.min().item(), value.max().item()) if isinstance(value, Tensor) else (value, value)
    if name in _UNIT_INTERVAL and not (low >= 0 and high < 1):
        raise ValueError(f"{name}={value} should lie in [0, 1)")
    if name in ("lr", "eps") and not low >= 0:
        raise ValueError(f"{name}={value} should not be negative")
