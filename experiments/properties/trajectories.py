"""Following an optimizer step by step, with gradients that are given or from a model."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

import optim
from data.types import Split
from experiments.models.base import Model
from experiments.training.loop import steps
from experiments.training.plan import Plan
from experiments.training.state import MakeOptimizer, TrainState


def follow(
    make: MakeOptimizer,
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


def given(gradients: Tensor) -> Callable[[Tensor, int], Tensor]:
    """Returns what `follow` takes for gradients [steps, ...] that do not depend on theta."""
    return lambda theta, t: gradients[t - 1]


def last(trajectory: Iterator[tuple[int, Tensor, torch.optim.Optimizer]]) -> Tensor:
    """The parameters after the last step."""
    *_, (_, theta, _) = trajectory
    return theta


def learn(
    model: Model, make: MakeOptimizer, split: Split, seeds: Sequence[int], passes: int, batch_size: int
) -> Iterator[tuple[int, dict[str, Tensor], torch.optim.Optimizer]]:
    """Trains a model, a member for each seed; yields before the first step and after each one t, the parameters and the optimizer.

    Args:
        model: what is trained.
        make: builds the optimizer around the parameters, each of shape [seeds, ...].
        split: the training examples.
        seeds: of the initial parameters, the order of the data and the noise.
        passes: over the examples.
        batch_size: examples per minibatch.
    """
    plan = Plan(passes, batch_size, "constant")
    progress = TrainState(model, make, seeds, 1, plan, torch.device("cpu"))
    taken = itertools.chain.from_iterable(steps(model, progress, split, plan) for _ in range(passes))
    yield 0, progress.parameters, progress.optimizer
    for t, _ in enumerate(taken, 1):
        yield t, progress.parameters, progress.optimizer
