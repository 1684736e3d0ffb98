"""The machine that runs every update rule of this package.

A rule is a pure function of tensors that reads like the paper's pseudo-code::

    rule(theta, g, *state, t, *hyperparameters) -> (theta, *state)

It is written for one model and knows nothing of parameter groups, gradients or storage. `RuleOptimizer` is the
`torch.optim.Optimizer` that holds the state and applies the rule. Each subclass names its rule, its state and its
hyper-parameters, and adds nothing else.
"""

from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Tensor

from optim.members import PerMember

# A hyper-parameter: one number, or one value per member of a population (shape [members]).
Hyperparameter = float | Tensor

# Elements per block on a CPU: a rule's dozen temporaries of this size are reused from the cache. One pass over 64 stacked
# logistic regressions took 9-12 ms without blocks and 3 ms with them (2 cores, float32).
_CACHED_ELEMENTS = 65536

_UNIT_INTERVAL = ("beta1", "beta2", "rho", "momentum")


class RuleOptimizer(torch.optim.Optimizer):
    """Applies a pure update rule to every parameter that has a gradient.

    Any hyper-parameter may be a tensor of shape [members]. The parameters then hold that many models stacked along their
    leading axis, and each member is updated with its own value, exactly as if it were trained alone.

    Raises:
        ValueError: a hyper-parameter is out of range, or there is not one value for each member.
        TypeError: a hyper-parameter is no number and no tensor.
        RuntimeError: a gradient is sparse.
    """

    rule: ClassVar[Callable[..., tuple[Tensor, ...]]]
    state_names: ClassVar[tuple[str, ...]]
    hyperparameters: ClassVar[tuple[str, ...]]

    def __init__(self, params, **defaults: Hyperparameter):
        super().__init__(params, defaults)

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
            hyperparameters = [group[name] for name in self.hyperparameters]
            for theta in group["params"]:
                if theta.grad is not None:
                    self._update(theta, hyperparameters)
        return loss

    def _update(self, theta: Tensor, hyperparameters: list[Hyperparameter]) -> None:
        if theta.grad.is_sparse:
            raise RuntimeError(f"{type(self).__name__} takes dense gradients, got a sparse one of shape {tuple(theta.shape)}")
        state = self.state[theta]
        if not state:
            state["t"] = 0
            for name in self.state_names:
                state[name] = torch.zeros_like(theta, memory_format=torch.preserve_format)
        state["t"] += 1
        _apply(type(self).rule, [theta, theta.grad, *(state[name] for name in self.state_names)], state["t"], hyperparameters)


def _apply(rule: Callable, tensors: list[Tensor], t: int, hyperparameters: list[Hyperparameter]) -> None:
    """Replaces tensors = [theta, g, *state] by the rule's result, except for g."""
    theta = tensors[0]
    hyperparameters = [_per_member(h, theta) if isinstance(h, Tensor) and h.ndim > 0 else h for h in hyperparameters]
    for (theta_block, g_block, *state_block), values in _blocks(tensors, hyperparameters):
        new_theta, *new_state = rule(theta_block, g_block, *state_block, t, *values)
        theta_block.copy_(new_theta)
        for old, new in zip(state_block, new_state, strict=True):
            old.copy_(new)


def _per_member(values: Tensor, theta: Tensor) -> PerMember:
    if theta.ndim == 0 or values.shape != theta.shape[:1]:
        raise ValueError(
            f"a hyper-parameter has {len(values)} values, one per member, but a parameter of shape {tuple(theta.shape)} is not such a stack"
        )
    return PerMember(values, theta.ndim)


def _blocks(tensors: list[Tensor], hyperparameters: list) -> Iterator[tuple[list[Tensor], list]]:
    """The tensors and hyper-parameters in blocks along the leading axis; on a CPU, such that temporaries stay in the cache."""
    theta = tensors[0]
    if theta.device.type != "cpu" or theta.ndim == 0 or theta.numel() <= _CACHED_ELEMENTS:
        yield tensors, hyperparameters
        return
    rows = max(1, _CACHED_ELEMENTS * len(theta) // theta.numel())
    for start in range(0, len(theta), rows):
        length = min(rows, len(theta) - start)
        yield (
            [tensor.narrow(0, start, length) for tensor in tensors],
            [h.narrow(start, length) if isinstance(h, PerMember) else h for h in hyperparameters],
        )


def _check(name: str, value: Hyperparameter) -> None:
    if not isinstance(value, (int, float, Tensor)):
        raise TypeError(f"{name}={value!r} should be a number, or a tensor with one value per member")
    low, high = (value.min().item(), value.max().item()) if isinstance(value, Tensor) else (value, value)
    if name in _UNIT_INTERVAL and not (low >= 0 and high < 1):
        raise ValueError(f"{name}={value} should lie in [0, 1)")
    if name in ("lr", "eps") and not low >= 0:
        raise ValueError(f"{name}={value} should not be negative")
