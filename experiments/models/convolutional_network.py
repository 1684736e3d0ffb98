"""The convolutional network of section 6.3 (figure 3): c64-c64-c128-1000."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from experiments.models.base import Model
from experiments.models.layers import check_arguments, check_start, dropout, for_members, initial_layers
from experiments.models.products import affine


class ConvolutionalNetwork(Model[Tensor]):
    """Scores of the classes after stages of convolution, max pooling and ReLU, and a layer of ReLU units, with dropout.

    A convolution keeps the size of the image; pooling by 3 x 3 with stride 2 halves it: 32, 16, 8, 4.

    Args:
        features: number of inputs: planes * size * size.
        classes: number of classes.
        planes: colours of an image.
        channels: outputs of the convolution of each stage.
        kernel: pixels along each side of a convolution, an odd number.
        hidden: units of the fully connected layer.
        dropout: share of these units dropped in training.
        input_dropout: share of the inputs dropped in training.
        l2: the cost of a member gets l2 / 2 * |weights|^2 (biases are free); a number, or one per member, shape [members].
        start, initial_std: initial weights, see `experiments.models.layers`.

    Raises:
        ValueError: an argument that is none of these.
    """

    per_member = ("l2",)
    depends_on_threads = True  # oneDNN sums the gradient of a convolution's weights thread by thread

    def __init__(
        self,
        features: int,
        classes: int,
        planes: int = 3,
        channels: Sequence[int] = (64, 64, 128),
        kernel: int = 5,
        hidden: int = 1000,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        l2: float | Tensor = 0.0,
        start: str = "fan_in_uniform",
        initial_std: float | dict[str, float] = 0.01,
    ):
        check_arguments(planes=planes, hidden=hidden, dropout=dropout, input_dropout=input_dropout)
        size = math.isqrt(features // planes)
        if planes * size * size != features:
            raise ValueError(f"model.planes={planes} is invalid: expected a number that divides {features} inputs into square images")
        if not (isinstance(kernel, int) and kernel > 0 and kernel % 2):
            raise ValueError(f"model.kernel={kernel} is invalid: expected an odd number above 0")
        if not isinstance(channels, Sequence) or not channels or not all(isinstance(value, int) and value > 0 for value in channels):
            raise ValueError(f"model.channels={channels} is invalid: expected whole numbers above 0")
        self.planes, self.size, self.kernel = planes, size, kernel
        self.dropout, self.input_dropout, self.l2, self.start, self.initial_std = dropout, input_dropout, l2, start, initial_std
        self.stages = [f"stage{number}" for number in range(1, len(channels) + 1)]
        # The shape of each weight, outputs first.
        self.layers: dict[str, tuple[int, ...]] = {}
        for stage, outputs, inputs in zip(self.stages, channels, (planes, *channels), strict=False):
            self.layers[stage] = (outputs, inputs, kernel, kernel)
            size = (size + 1) // 2
        self.layers |= {"hidden": (hidden, channels[-1] * size * size), "scores": (classes, hidden)}
        check_start(start, initial_std, l2, self.layers)

    def initial_parameters(self, generator: torch.Generator) -> dict[str, Tensor]:
        """The parameters of one member: a weight [outputs, inputs, ...] and a bias [outputs, 1] for each layer."""
        return initial_layers(self.layers, self.start, self.initial_std, generator)

    def losses(self, parameters: dict[str, Tensor], inputs: Tensor, targets: Tensor, noise: Sequence[torch.Generator]) -> Tensor:
        """-log p of the true class with dropout on, in nats, shape [members, batch].

        Args:
            parameters: stacked over members.
            inputs: shape [streams, batch, features].
            targets: classes, shape [streams, batch].
            noise: a generator per stream.
        """
        if self.input_dropout:
            inputs = dropout(inputs, self.input_dropout, noise)
        scores = self._scores(parameters, inputs, noise if self.dropout else ())
        return functional.cross_entropy(scores, for_members(targets, len(scores)), reduction="none")

    def measures(self, parameters: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """With dropout off: `cost`, -log p of the true class in nats, and `error`, 1 where the class is mistaken; [members, batch]."""
        scores = self._scores(parameters, inputs, ())
        targets = for_members(targets, len(scores))
        cost = functional.cross_entropy(scores, targets, reduction="none")
        return {"cost": cost, "error": (scores.argmax(1) != targets).float()}

    def _scores(self, parameters: dict[str, Tensor], inputs: Tensor, noise: Sequence[torch.Generator]) -> Tensor:
        """Shape [members, classes, batch]; units of the fully connected layer are dropped where there is noise."""
        streams, batch, _ = inputs.shape
        members = len(parameters["scores.weight"])
        # Members lie side by side as groups of channels; those of a stream share its images as one group.
        images = inputs.view(streams, batch, self.planes, self.size, self.size).transpose(0, 1).flatten(1, 2)
        images, groups = images.contiguous(memory_format=torch.channels_last), streams
        for stage in self.stages:
            weight, bias = parameters[f"{stage}.weight"].flatten(0, 1), parameters[f"{stage}.bias"].flatten()
            images = functional.conv2d(images, weight, bias, padding=self.kernel // 2, groups=groups)
            # Pooling before ReLU gives the same with a quarter of the work.
            images, groups = functional.max_pool2d(images, 3, stride=2, padding=1).relu(), members
        activity = images.reshape(batch, members, -1).permute(1, 2, 0)
        activity = affine(parameters["hidden.weight"], parameters["hidden.bias"], activity).relu()
        if noise:
            activity = dropout(activity, self.dropout, noise)
        return affine(parameters["scores.weight"], parameters["scores.bias"], activity)
