"""The fully connected network of section 6.2 (figure 2): two hidden layers of ReLU units."""

from collections.abc import Sequence

import torch
from torch import Tensor

from experiments.models.layers import ReluNetwork, check_arguments, dropout
from experiments.models.products import affine


class MultilayerNetwork(ReluNetwork):
    """Layers of ReLU units, then the class scores, with dropout of inputs and hidden units (Hinton et al. 2012).

    Args:
        features: number of inputs.
        classes: number of classes.
        hidden: units of each hidden layer.
        layers: number of hidden layers.
        dropout, input_dropout, l2, start, initial_std: see `ReluNetwork`.

    Raises:
        ValueError: an argument is invalid.
    """

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
        check_arguments(hidden=hidden, layers=layers)
        widths = [features, *[hidden] * layers, classes]
        shapes = {f"layer{number}": (widths[number], widths[number - 1]) for number in range(1, layers + 2)}
        super().__init__(shapes, dropout, input_dropout, l2, start, initial_std)

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
