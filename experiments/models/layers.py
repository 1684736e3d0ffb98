"""Shared parts of the models: initial weights, dropout, checks of arguments."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import overload

import torch
from torch import Tensor
from torch.nn import functional

from data.rows import SparseBatch
from experiments.models.base import Model
from experiments.schema import check


class ReluNetwork(Model[Tensor]):
    """A classifier whose `_scores` are shape [members, classes, batch]; noise enables dropout of its hidden units.

    Args:
        layers: the shape of each layer's weight, outputs first.
        dropout, input_dropout: shares of the hidden units and of the inputs that are dropped in training.
        l2: weight of the penalty l2 / 2 * |weights|^2 (biases are free); a number, or one per member, shape [members].
        start, initial_std: initial weights, see `initial_layers`.

    Raises:
        ValueError: an argument is invalid.
    """

    per_member = ("l2",)

    def __init__(
        self,
        layers: Mapping[str, tuple[int, ...]],
        dropout: float,
        input_dropout: float,
        l2: float | Tensor,
        start: str,
        initial_std: float | dict[str, float],
    ):
        check_arguments(dropout=dropout, input_dropout=input_dropout)
        check_start(start, initial_std, l2, layers)
        self.layers, self.dropout, self.input_dropout, self.l2 = layers, dropout, input_dropout, l2
        self.start, self.initial_std = start, initial_std

    @abstractmethod
    def _scores(self, parameters: dict[str, Tensor], inputs: Tensor, noise: Sequence[torch.Generator]) -> Tensor: ...

    def initial_parameters(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws the parameters of one member: a weight [outputs, inputs, ...] and a bias [outputs, 1] per layer."""
        return initial_layers(self.layers, self.start, self.initial_std, generator)

    def losses(self, parameters: dict[str, Tensor], inputs: Tensor, targets: Tensor, noise: Sequence[torch.Generator]) -> Tensor:
        """Returns -log p of the true class with dropout on; see `Model.losses`."""
        if self.input_dropout:
            inputs = dropout(inputs, self.input_dropout, noise)
        scores = self._scores(parameters, inputs, noise if self.dropout else ())
        return functional.cross_entropy(scores, for_members(targets, len(scores)), reduction="none")

    def measures(self, parameters: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Returns `cost`, -log p of the true class, and `error` with dropout off; see `Model.measures`."""
        scores = self._scores(parameters, inputs, ())
        targets = for_members(targets, len(scores))
        cost = functional.cross_entropy(scores, targets, reduction="none")
        return {"cost": cost, "error": (scores.argmax(1) != targets).float()}


def initial_layers(
    shapes: Mapping[str, tuple[int, ...]], start: str, initial_std: float | dict[str, float], generator: torch.Generator
) -> dict[str, Tensor]:
    """Draws a weight and a bias [outputs, 1] for each layer.

    Args:
        shapes: of each layer's weight, [outputs, inputs] or, for a convolution, [outputs, planes, rows, columns].
        start: `fan_in_uniform`, U(-1, 1) / sqrt(inputs) for weights and biases, torch's default; `fan_in`, N(0, 1 / inputs); `he_normal`,
            N(0, 2 / inputs) (He et al. 2015); or `normal`, N(0, initial_std^2). Biases of the last three are 0.
        initial_std: standard deviation for `normal`, a number, or one per layer.
        generator: source of the random numbers.
    """
    parameters: dict[str, Tensor] = {}
    for layer, shape in shapes.items():
        weight, bias, inputs = torch.empty(shape), torch.zeros(shape[0], 1), math.prod(shape[1:])
        if start == "fan_in_uniform":
            for tensor in (weight, bias):
                tensor.uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)
        else:
            given = initial_std[layer] if isinstance(initial_std, dict) else initial_std
            deviation = {"fan_in": 1 / math.sqrt(inputs), "he_normal": math.sqrt(2 / inputs), "normal": given}[start]
            weight.normal_(0, 1, generator=generator).mul_(deviation)
        parameters |= {f"{layer}.weight": weight, f"{layer}.bias": bias}
    return parameters


def check_arguments(**values) -> None:
    """Raises ValueError for an invalid argument of a model; does not check tensors, one value per member."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            check(f"model.{name}", value)


def check_start(start: str, initial_std: float | dict[str, float], l2: float | Tensor, layers: Iterable[str]) -> None:
    """Raises ValueError for an unknown start, a negative l2, or an initial_std that is negative or does not name every layer."""
    if isinstance(initial_std, dict) and initial_std.keys() != set(layers):
        raise ValueError(f"model.initial_std={initial_std} is invalid: expected a number for each of {', '.join(layers)}")
    check_arguments(start=start, l2=l2, initial_std=initial_std)


def for_members(values: Tensor, members: int) -> Tensor:
    """Repeats values [streams, ...] for the members of each stream: [members, ...]."""
    return values if members == len(values) else values.repeat_interleave(members // len(values), 0)


@overload
def dropout(inputs: Tensor, rate: float, generators: Sequence[torch.Generator]) -> Tensor: ...


@overload
def dropout(inputs: Tensor | SparseBatch, rate: float, generators: Sequence[torch.Generator]) -> Tensor | SparseBatch: ...


def dropout(inputs: Tensor | SparseBatch, rate: float, generators: Sequence[torch.Generator]) -> Tensor | SparseBatch:
    """Sets each input to 0 with probability `rate` and divides the others by 1 - rate (inverted dropout, Hinton et al. 2012).

    Args:
        inputs: shape [streams * members, ...], ordered by stream; members of a stream share a mask. Or a sparse batch [streams, ...],
            which needs random numbers for its stored values only.
        rate: in [0, 1), rounded to a multiple of 2^-16 below 1.
        generators: one per stream, on the inputs' device.

    Returns:
        The scaled inputs, same shape.
    """
    if isinstance(inputs, SparseBatch):
        return inputs.scaled(torch.cat([_scales(size, rate, generator) for size, generator in zip(inputs.sizes, generators, strict=True)]))
    by_stream = inputs.view(len(generators), -1, *inputs.shape[1:])
    drawn = [_scales(inputs[0].numel(), rate, generator) for generator in generators]
    scales = torch.stack(drawn) if len(drawn) > 1 else drawn[0]
    return (by_stream * scales.view(len(generators), 1, *inputs.shape[1:])).view_as(inputs)


def _scales(size: int, rate: float, generator: torch.Generator) -> Tensor:
    # Four 16-bit numbers per 64-bit draw: with a draw each, random numbers take a third of a step's time.
    draws = torch.empty(-(-size // 4), dtype=torch.int64, device=generator.device).random_(-(2**63), None, generator=generator)
    scales = torch.empty(size, device=generator.device)
    # Writing float32 directly is 5x faster than converting booleans.
    return torch.ge(draws.view(torch.int16)[:size], min(round(rate * 2**16), 2**16 - 1) - 2**15, out=scales).div_(1 - rate)
