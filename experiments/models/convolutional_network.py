"""The convolutional network of section 6.3 (figure 3): c64-c64-c128-1000."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from experiments.models.layers import ReluNetwork, check_arguments, dropout
from experiments.models.products import affine


class ConvolutionalNetwork(ReluNetwork):
    """Stages of convolution, max pooling and ReLU, then a fully connected ReLU layer and the class scores, with dropout.

    Convolutions keep the image size; 3 x 3 pooling with stride 2 halves it: 32, 16, 8, 4.

    Args:
        features: number of inputs: planes * size * size.
        classes: number of classes.
        planes: input channels of an image, such as 3 colours.
        channels: output channels of each stage.
        kernel: width and height of a convolution in pixels, an odd number.
        hidden: units of the fully connected layer.
        dropout, input_dropout, l2, start, initial_std: see `ReluNetwork`; dropout is of the fully connected layer.

    Raises:
        ValueError: an argument is invalid.
    """

    depends_on_threads = True  # oneDNN sums the gradient of a convolution's weights thread by thread
    evaluation_batch = 500  # an image has half a megabyte of activations

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
        check_arguments(planes=planes, hidden=hidden)
        size = math.isqrt(features // planes)
        if planes * size * size != features:
            raise ValueError(f"model.planes={planes} is invalid: expected a number that divides {features} inputs into square images")
        if not (isinstance(kernel, int) and kernel > 0 and kernel % 2):
            raise ValueError(f"model.kernel={kernel} is invalid: expected an odd number above 0")
        if not isinstance(channels, Sequence) or not channels or not all(isinstance(value, int) and value > 0 for value in channels):
            raise ValueError(f"model.channels={channels} is invalid: expected whole numbers above 0")
        self.planes, self.size, self.kernel = planes, size, kernel
        self.stages = [f"stage{number}" for number in range(1, len(channels) + 1)]
        shapes: dict[str, tuple[int, ...]] = {}
        for stage, outputs, inputs in zip(self.stages, channels, (planes, *channels), strict=False):
            shapes[stage] = (outputs, inputs, kernel, kernel)
            size = (size + 1) // 2
        shapes |= {"hidden": (hidden, channels[-1] * size * size), "scores": (classes, hidden)}
        super().__init__(shapes, dropout, input_dropout, l2, start, initial_std)

    def _scores(self, parameters: dict[str, Tensor], inputs: Tensor, noise: Sequence[torch.Generator]) -> Tensor:
        """Returns scores [members, classes, batch]; noise enables dropout of the fully connected layer."""
        streams, batch, _ = inputs.shape
        members = len(parameters["scores.weight"])
        # Members are groups of channels. In the first stage, members of a stream share its images and thus one group.
        images = inputs.view(streams, batch, self.planes, self.size, self.size).transpose(0, 1).flatten(1, 2)
        images, groups = images.contiguous(memory_format=torch.channels_last), streams
        for stage in self.stages:
            weight, bias = parameters[f"{stage}.weight"].flatten(0, 1), parameters[f"{stage}.bias"].flatten()
            images = functional.conv2d(images, weight, bias, padding=self.kernel // 2, groups=groups)
            # ReLU commutes with max pooling; after it, it has a quarter of the elements.
            images, groups = functional.max_pool2d(images, 3, stride=2, padding=1).relu(), members
        activity = images.reshape(batch, members, -1).permute(1, 2, 0)
        activity = affine(parameters["hidden.weight"], parameters["hidden.bias"], activity).relu()
        if noise:
            activity = dropout(activity, self.dropout, noise)
        return affine(parameters["scores.weight"], parameters["scores.bias"], activity)
