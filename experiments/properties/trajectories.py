"""Following an optimizer step by step, with gradients that are given or from a model."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

import optim
from data import Split
from experiments.streams import generator, minibatches


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


def learn(
    model, make: Callable[[list[Tensor]], torch.optim.Optimizer], split: Split, seeds: Sequence[int], passes: int, batch_size: int
) -> Iterator[tuple[int, dict[str, Tensor], torch.optim.Optimizer]]:
    """Trains a model, a member for each seed; yields before the first step and after each one t, the parameters and the optimizer.

    Args:
        model: see `experiments.logistic_regression` for what a model has.
        make: builds the optimizer around the parameters, each of shape [seeds, ...].
        split: the training examples.
        seeds: of the initial parameters, the order of the data and the noise.
        passes: over the examples.
        batch_size: examples per minibatch.
    """
    starts = [model.initial_parameters(generator(seed, "initial parameters")) for seed in seeds]
    parameters = {name: torch.stack([start[name] for start in starts]).requires_grad_() for name in starts[0]}
    order, noise = ([generator(seed, purpose) for seed in seeds] for purpose in ("order of data", "noise"))
    optimizer, t = make(list(parameters.values())), 0
    yield t, parameters, optimizer
    for _ in range(passes):
        for index in minibatches(len(split), batch_size, order, torch.device("cpu")):
            costs = model.losses(parameters, split.inputs.take(index), split.targets[index], noise).mean(1)
            optimizer.zero_grad()
            (costs + model.penalty(parameters)).sum().backward()
            optimizer.step()
            t += 1
            yield t, parameters, optimizer
