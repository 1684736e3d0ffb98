"""Logistic regression, binary and multinomial (section 6.1, figure 1)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from data.rows import SparseBatch, linear
from experiments.layers import check_not_negative, check_rates, penalty
from experiments.streams import dropout, for_members


class LogisticRegression:
    """log p(class | inputs) is linear in the inputs up to normalisation; two classes share one score.

    All methods work on a population: every parameter has a leading axis of members, and the members of one stream of data
    stand together, so that members = streams * members per stream.

    Args:
        features: number of inputs.
        classes: number of classes.
        l2: the cost of a member gets l2 / 2 * |weight|^2 (the bias is free); a number, or one per member, shape [members].
        dropout: share of the inputs dropped in training.
        initial_std: standard deviation of the normal initial weights; the bias starts at 0.
    """

    per_member = ("l2",)

    def __init__(self, features: int, classes: int, l2: float | Tensor = 0.0, dropout: float = 0.0, initial_std: float = 0.0):
        check_rates(dropout=dropout)
        check_not_negative(l2=l2, initial_std=initial_std)
        self.features, self.scores = features, 1 if classes == 2 else classes
        self.l2, self.dropout, self.initial_std = l2, dropout, initial_std

    def initial_parameters(self, generator: torch.Generator) -> dict[str, Tensor]:
        """The parameters of one member: weight [scores, features] and bias [scores]."""
        weight = torch.randn(self.scores, self.features, generator=generator) * self.initial_std
        return {"weight": weight, "bias": torch.zeros(self.scores)}

    def losses(
        self, parameters: dict[str, Tensor], inputs: Tensor | SparseBatch, targets: Tensor, noise: Sequence[torch.Generator]
    ) -> Tensor:
        """-log p of the true class with dropout on, in nats, shape [members, batch].

        Args:
            parameters: stacked over members.
            inputs: shape [streams, batch, features].
            targets: classes, shape [streams, batch].
            noise: a generator per stream.
        """
        if self.dropout:
            inputs = dropout(inputs, self.dropout, noise)
        return self._losses(self._scores(parameters, inputs), targets)

    def measures(self, parameters: dict[str, Tensor], inputs: Tensor | SparseBatch, targets: Tensor) -> dict[str, Tensor]:
        """With dropout off: `cost`, -log p of the true class in nats, and `error`, 1 where the class is mistaken; [members, batch]."""
        scores = self._scores(parameters, inputs)
        guess = (scores[:, 0] > 0).long() if self.scores == 1 else scores.argmax(1)
        return {"cost": self._losses(scores, targets), "error": (guess != for_members(targets, len(guess))).float()}

    def penalty(self, parameters: dict[str, Tensor]) -> Tensor:
        """l2 / 2 * |weight|^2, shape [members]."""
        return penalty(parameters, self.l2)

    def _scores(self, parameters: dict[str, Tensor], inputs: Tensor | SparseBatch) -> Tensor:
        """Shape [members, scores, batch]: one wide product for all members of a stream."""
        streams, batch, features = inputs.shape
        products = linear(parameters["weight"].view(streams, -1, features), inputs)
        return products.reshape(-1, self.scores, batch) + parameters["bias"].unsqueeze(2)

    def _losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        if self.scores == 1:
            scores = scores[:, 0]
            targets = for_members(targets, len(scores)).to(scores.dtype)
            return functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        return functional.cross_entropy(scores, for_members(targets, len(scores)), reduction="none")
