"""Follows an optimizer step by step, on given gradients or on a model."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

import optim
from data.types import Dataset
from experiments.models.base import Model
from experiments.training.loop import steps
from experiments.training.plan import MakeOptimizer, Plan, Training
from experiments.training.state import TrainState


def follow(
    make: MakeOptimizer,
    start: Tensor,
    gradient: Callable[[Tensor, int], Tensor],
    steps: int,
    decaying: bool = False,
) -> Iterator[tuple[int, Tensor, torch.optim.Optimizer]]:
    """Takes steps t = 1, 2, ...; yields after each step t, theta_t (always the same tensor) and the optimizer.

    Args:
        make: builds the optimizer from [theta].
        start: theta_0, of any shape; not modified.
        gradient: maps theta_(t-1) and t to g_t, of the same shape.
        steps: number of steps.
        decaying: whether the learning rate is alpha / sqrt(t), as in section 4.
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
    """Returns the `gradient` argument of `follow` for fixed gradients [steps, ...]."""
    return lambda theta, t: gradients[t - 1]


def quadratic(scale: Tensor | float, shift: Tensor) -> Callable[[Tensor, int], Tensor]:
    """Returns the `gradient` argument of `follow` for scale * (theta + shift_t); shift of shape [steps, ...] holds minus the minimum."""
    return lambda theta, t: scale * (theta + shift[t - 1])


def last(trajectory: Iterator[tuple[int, Tensor, torch.optim.Optimizer]]) -> Tensor:
    """Returns the parameters after the last step."""
    *_, (_, theta, _) = trajectory
    return theta


def learn(
    model: Model, make: MakeOptimizer, dataset: Dataset, seeds: Sequence[int], epochs: int, batch_size: int
) -> Iterator[tuple[int, dict[str, Tensor], torch.optim.Optimizer]]:
    """Trains a member per seed; yields t, the parameters and the optimizer, before the first step (t = 0) and after each step.

    Args:
        model: the model to train.
        make: builds the optimizer from the parameters, each of shape [seeds, ...].
        dataset: whose training examples it sees.
        seeds: of the initial parameters, the order of the data and the noise.
        epochs: number of epochs.
        batch_size: examples per minibatch.
    """
    training = Training(model, make, dataset, seeds, 1, Plan(epochs, batch_size, "constant"), torch.device("cpu"))
    state = TrainState(training)
    taken = itertools.chain.from_iterable(steps(training, state) for _ in range(epochs))
    yield 0, state.parameters, state.optimizer
    for t, _ in enumerate(taken, 1):
        yield t, state.parameters, state.optimizer
