"""Logistic regression, binary and multinomial (section 6.1, figure 1)."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional

from data.rows import SparseBatch
from experiments.models.base import Model
from experiments.models.layers import check_arguments, dropout, for_members
from experiments.models.products import affine, matmul, sparse_weight_gradient
from experiments.schema import RULES, check


class LogisticRegression(Model[Tensor | SparseBatch]):
    """Scores linear in the inputs: one per class, or one in all for two classes.

    Args:
        features: number of inputs.
        classes: number of classes.
        l2: weight of the penalty l2 / 2 * |weight|^2 (the bias is free); a number, or one per member, shape [members].
        dropout: share of the inputs dropped in training.
        initial_std: standard deviation of the normal initial weights; the bias starts at 0.
    """

    per_member = ("l2",)

    def __init__(self, features: int, classes: int, l2: float | Tensor = 0.0, dropout: float = 0.0, initial_std: float = 0.0):
        check_arguments(dropout=dropout, l2=l2)
        check("model.initial_std", initial_std, RULES["model.initial_std"]._replace(named=False))  # it has one layer
        self.features, self.scores = features, 1 if classes == 2 else classes
        self.l2, self.dropout, self.initial_std = l2, dropout, initial_std

    def initial_parameters(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws the parameters of one member: weight [scores, features] and bias [scores]."""
        weight = torch.randn(self.scores, self.features, generator=generator) * self.initial_std
        return {"weight": weight, "bias": torch.zeros(self.scores)}

    def losses(
        self, parameters: dict[str, Tensor], inputs: Tensor | SparseBatch, targets: Tensor, noise: Sequence[torch.Generator]
    ) -> Tensor:
        """Returns -log p of the true class with dropout on; see `Model.losses`."""
        if self.dropout:
            inputs = dropout(inputs, self.dropout, noise)
        return self._losses(self._scores(parameters, inputs), targets)

    def measures(self, parameters: dict[str, Tensor], inputs: Tensor | SparseBatch, targets: Tensor) -> dict[str, Tensor]:
        """Returns `cost`, -log p of the true class, and `error` with dropout off; see `Model.measures`."""
        scores = self._scores(parameters, inputs)
        guess = (scores[:, 0] > 0).long() if self.scores == 1 else scores.argmax(1)
        return {"cost": self._losses(scores, targets), "error": (guess != for_members(targets, len(guess))).float()}

    @torch.no_grad()
    def differentiate(
        self,
        parameters: dict[str, Tensor],
        inputs: Tensor | SparseBatch,
        targets: Tensor,
        noise: Sequence[torch.Generator],
        autocast: Callable[[], AbstractContextManager] = nullcontext,
    ) -> Tensor:
        """Computes `Model.differentiate` in closed form, in a third of autograd's time.

        The gradient with respect to a score is p(class | inputs) - 1[true class]; times the inputs, that with respect to the weights.
        """
        if self.dropout:
            inputs = dropout(inputs, self.dropout, noise)
        with autocast():
            scores = self._scores(parameters, inputs).float()
        targets = for_members(targets, len(scores)).unsqueeze(1)
        each = 1 / targets.shape[2]
        if self.scores == 1:
            truth = targets.to(scores.dtype)
            costs = functional.binary_cross_entropy_with_logits(scores, truth, reduction="none")
            pull = scores.sigmoid().sub_(truth).mul_(each)
        else:
            log_p = scores.log_softmax(1)
            costs = log_p.gather(1, targets).neg_()
            pull = log_p.exp_().mul_(each)
            pull.scatter_(1, targets, -each, reduce="add")
        streams = inputs.shape[0]
        wide = pull.view(streams, -1, pull.shape[2])
        gradient = sparse_weight_gradient(wide, inputs) if isinstance(inputs, SparseBatch) else matmul(wide, inputs)
        parameters["weight"].grad = gradient.reshape(parameters["weight"].shape)
        parameters["bias"].grad = pull.sum(2)
        self.add_penalty_gradient(parameters)
        return costs.mean((1, 2))

    def _scores(self, parameters: dict[str, Tensor], inputs: Tensor | SparseBatch) -> Tensor:
        """Returns scores [members, scores, batch], from one wide product for all members of a stream."""
        streams, batch, features = inputs.shape
        weight, bias = parameters["weight"].view(streams, -1, features), parameters["bias"].view(streams, -1, 1)
        return affine(weight, bias, inputs if isinstance(inputs, SparseBatch) else inputs.mT).reshape(-1, self.scores, batch)

    def _losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        if self.scores == 1:
            scores = scores[:, 0]
            targets = for_members(targets, len(scores)).to(scores.dtype)
            return functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        return functional.cross_entropy(scores, for_members(targets, len(scores)), reduction="none")
