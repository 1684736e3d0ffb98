"""What the networks of ReLU units have in common: initial weights, the penalty, checks of their arguments."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from experiments.schema import check

STARTS = ("fan_in_uniform", "he_normal", "normal")


def initial_layers(
    shapes: dict[str, tuple[int, ...]], start: str, initial_std: float | dict[str, float], generator: torch.Generator
) -> dict[str, Tensor]:
    """A weight and a bias [outputs, 1] for each layer.

    Args:
        shapes: of each layer's weight, [outputs, inputs] or, for a convolution, [outputs, planes, rows, columns].
        start: `fan_in_uniform`, U(-1, 1) / sqrt(inputs), biases too, as torch has it; `he_normal`, N(0, 2 / inputs) (He et al.
            2015); or `normal`, N(0, initial_std^2). Biases of the last two are 0.
        initial_std: see `start`; a number, or one for each layer.
        generator: of the random numbers.
    """
    parameters = {}
    for layer, shape in shapes.items():
        weight, bias, inputs = torch.empty(shape), torch.zeros(shape[0], 1), math.prod(shape[1:])
        if start == "fan_in_uniform":
            for tensor in (weight, bias):
                tensor.uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)
        else:
            given = initial_std[layer] if isinstance(initial_std, dict) else initial_std
            weight.normal_(0, 1, generator=generator).mul_(math.sqrt(2 / inputs) if start == "he_normal" else given)
        parameters |= {f"{layer}.weight": weight, f"{layer}.bias": bias}
    return parameters


def check_arguments(**values) -> None:
    """Raises ValueError for an invalid argument of a model; tensors, one value per member, are taken as they are."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            check(f"model.{name}", value)


def check_start(start: str, initial_std: float | dict[str, float], l2: float | Tensor, layers: Iterable[str]) -> None:
    """Raises ValueError for an unknown start, deviations that are negative or lack a layer, or a negative weight of the penalty."""
    if start not in STARTS:
        raise ValueError(f"model.start={start} is invalid: expected one of {', '.join(STARTS)}")
    if isinstance(initial_std, dict) and initial_std.keys() != set(layers):
        raise ValueError(f"model.initial_std={initial_std} is invalid: expected a number for each of {', '.join(layers)}")
    check_arguments(l2=l2, initial_std=initial_std)
