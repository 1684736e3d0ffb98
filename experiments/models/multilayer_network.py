"""The fully connected network of section 6.2 (figure 2): two hidden layers of ReLU units."""

from collections.abc import Sequence

import torch
from torch import Tensor

from experiments.models.layers import ReluNetwork, check_arguments, check_start, dropout
from experiments.models.products import affine


class MultilayerNetwork(ReluNetwork):
    """Layers of ReLU units, then the class scores, with dropout of inputs and hidden units (Hinton et al. 2012).

    Args:
        features: number of inputs.
        classes: number of classes.
        hidden: units of each hidden layer.
        layers: number of hidden layers.
        dropout: share of the hidden units dropped in training.
        input_dropout: share of the inputs dropped in training.
        l2: weight of the penalty l2 / 2 * |weights|^2 (biases are free); a number, or one per member, shape [members].
        start, initial_std: initial weights, see `initial_layers`.

    Raises:
        ValueError: an argument is invalid.
    """

    per_member = ("l2",)

    def __init__(
        self,
        features: int,
        classes: int,
        hidden: int = 1000,
        layers: int = 2,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        l2: float | Tensor = 0.0,
        start: str = "fan_in_uniform",
        initial_std: float | dict[str, float] = 0.01,
    ):
        check_arguments(hidden=hidden, layers=layers, dropout=dropout, input_dropout=input_dropout)
        self.dropout, self.input_dropout, self.l2, self.start, self.initial_std = dropout, input_dropout, l2, start, initial_std
        widths = [features, *[hidden] * layers, classes]
        # Outputs and inputs of each layer.
        self.layers = {f"layer{number}": (widths[number], widths[number - 1]) for number in range(1, layers + 2)}
        check_start(start, initial_std, l2, self.layers)

    def _scores(self, parameters: dict[str, Tensor], inputs: Tensor, noise: Sequence[torch.Generator]) -> Tensor:
        """Returns scores [members, classes, batch]; noise enables dropout of hidden units."""
        streams, batch, features = inputs.shape
        first, *others = self.layers
        # Members of a stream share the inputs of the first layer: one wide product serves them all.
        weight, bias = parameters[f"{first}.weight"].view(streams, -1, features), parameters[f"{first}.bias"].view(streams, -1, 1)
        activity = affine(weight, bias, inputs.mT).view(-1, self.layers[first][0], batch)
        for layer in others:
            activity = activity.relu()
            if noise:
                activity = dropout(activity, self.dropout, noise)
            activity = affine(parameters[f"{layer}.weight"], parameters[f"{layer}.bias"], activity)
        return activity
