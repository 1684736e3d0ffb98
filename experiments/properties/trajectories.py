"""Following an optimizer step by step, with gradients that are given."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

import optim


def follow(
    make: Callable[[list[Tensor]], torch.optim.Optimizer],
    start: Tensor,
    gradient: Callable[[Tensor, int], Tensor],
    steps: int,
    decaying: bool = False,
) -> Iterator[tuple[int, Tensor, torch.optim.Optimizer]]:
    """Takes steps t = 1, 2, ... and yields after each t, the parameters (the same tensor every time) and the optimizer.

    Args:
        make: builds the optimizer around [parameters].
        start: theta_0, of any shape; it is not changed.
        gradient: gets theta_(t-1) and t and returns g_t, of the same shape.
        steps: how many.
        decaying: whether the step size is alpha / sqrt(t), as in section 4.
    """
    theta = start.clone().requires_grad_()
    optimizer = make([theta])
    schedule = optim.InverseSqrt(optimizer) if decaying else None
    for t in range(1, steps + 1):
        theta.grad = gradient(theta.detach(), t)
        optimizer.step()
        yield t, theta.detach(), optimizer
        if schedule:
            schedule.step()


def last(trajectory: Iterator[tuple[int, Tensor, torch.optim.Optimizer]]) -> Tensor:
    """The parameters after the last step."""
    *_, (_, theta, _) = trajectory
    return theta
