"""The interface between the training loop and a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from data.rows import SparseBatch

Inputs = TypeVar("Inputs", bound=Tensor | SparseBatch, contravariant=True)


class Model(ABC, Generic[Inputs]):
    """A loss, its penalty and its initial parameters.

    All methods work on a population: every parameter has a leading axis of members, ordered by stream of data, so that
    members = streams * members per stream. Members of a stream share minibatches and noise.

    `Model[Tensor]` takes dense inputs only, `Model[Tensor | SparseBatch]` sparse ones too.

    Attributes:
        per_member: the arguments of the class that may be a tensor with one value per member.
        depends_on_threads: whether float32 results depend, in their last bits, on the number of CPU threads.
        evaluation_batch: examples, times members, that are evaluated at once.
        l2: weight of the penalty, a number, or one per member, shape [members].
    """

    per_member: ClassVar[tuple[str, ...]] = ()
    depends_on_threads: ClassVar[bool] = False
    evaluation_batch: ClassVar[int] = 5_000
    l2: float | Tensor = 0.0

    @abstractmethod
    def __init__(self, features: int, classes: int, **settings):
        """Receives the shape of the data, and the keys of the model's file in conf/model."""

    @abstractmethod
    def initial_parameters(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws the parameters of one member."""

    @abstractmethod
    def losses(self, parameters: dict[str, Tensor], inputs: Inputs, targets: Tensor, noise: Sequence[torch.Generator]) -> Tensor:
        """Returns the training loss of each example without the penalty, with noise on, in nats, shape [members, batch].

        Args:
            parameters: stacked over members.
            inputs: shape [streams, batch, features].
            targets: classes, shape [streams, batch].
            noise: one generator per stream.
        """

    @abstractmethod
    def measures(self, parameters: dict[str, Tensor], inputs: Inputs, targets: Tensor) -> dict[str, Tensor]:
        """Returns `cost` (nats) and, for classifiers, `error` (0 or 1) of each example with noise off, shape [members, batch] each."""

    def penalised(self, parameters: dict[str, Tensor]) -> list[Tensor]:
        """Returns the parameters under the penalty: weights, not biases."""
        return [parameter for name, parameter in parameters.items() if name.endswith("weight")]

    def penalty(self, parameters: dict[str, Tensor]) -> Tensor:
        """Returns l2 / 2 * |penalised parameters|^2, shape [members]."""
        penalised = self.penalised(parameters)
        if not isinstance(self.l2, Tensor) and self.l2 == 0:
            return penalised[0].new_zeros(len(penalised[0]))
        squares = [parameter.square().flatten(1).sum(1) for parameter in penalised]
        return self.l2 / 2 * sum(squares[1:], start=squares[0])

    def differentiate(
        self,
        parameters: dict[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        noise: Sequence[torch.Generator],
        autocast: Callable[[], AbstractContextManager] = nullcontext,
    ) -> Tensor:
        """Sets `.grad` of every parameter to the gradient of each member's mean loss plus penalty.

        Args:
            parameters, inputs, targets, noise: see `losses`.
            autocast: the context in which losses are computed, such as torch.autocast for products in bfloat16.

        Returns:
            The mean losses without the penalty, shape [members].
        """
        with autocast():
            costs = self.losses(parameters, inputs, targets, noise).mean(1)
        for parameter in parameters.values():  # as optimizer.zero_grad(), without its 20 microseconds of profiling hooks
            parameter.grad = None
        costs.sum().backward()  # members are independent: each gets the gradient of its own loss
        self.add_penalty_gradient(parameters)
        return costs.detach()

    def add_penalty_gradient(self, parameters: dict[str, Tensor]) -> None:
        """Adds l2 * parameter to the gradients of the penalised parameters, in one pass over memory; autograd takes five."""
        if not isinstance(self.l2, Tensor) and self.l2 == 0:
            return
        with torch.no_grad():
            for parameter in self.penalised(parameters):
                assert parameter.grad is not None  # the loss depends on every parameter
                if isinstance(self.l2, Tensor):
                    parameter.grad.addcmul_(parameter, self.l2.view(-1, *[1] * (parameter.ndim - 1)))
                else:
                    parameter.grad.add_(parameter, alpha=self.l2)
