"""The variational autoencoder of section 6.4 (figure 4), from Kingma & Welling 2013, appendix C."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from experiments.models.base import Model
from experiments.models.layers import check_arguments, check_start, for_members, initial_layers
from experiments.models.products import affine


class VariationalAutoencoder(Model[Tensor]):
    """A Gaussian latent code z of an image x; encoder and decoder have one hidden layer of softplus units each.

    The loss of an image is minus the lower bound of log p(x), in nats: KL(q(z|x) || N(0, I)), in closed form, minus
    log p(x|z) at one draw of z, for independent Bernoulli pixels. Grey values count as pixel probabilities.

    Args:
        features: number of pixels.
        classes: not used.
        hidden: units of each hidden layer.
        latent: dimensions of z.
        pixels: `grey`, or `resampled`: sampled as 0 or 1 every time an image is seen.
        start, initial_std: initial weights, see `initial_layers`.
        l2: weight of the penalty l2 / 2 * |all parameters|^2; 1 / (number of images) is the prior N(0, I) on them.

    Raises:
        ValueError: an argument is invalid.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        hidden: int = 500,
        latent: int = 50,
        pixels: str = "grey",
        start: str = "normal",
        initial_std: float | dict[str, float] = 0.01,
        l2: float = 0.0,
    ):
        check_arguments(hidden=hidden, latent=latent, pixels=pixels)
        self.pixels, self.start, self.initial_std, self.l2 = pixels, start, initial_std, l2
        # Outputs and inputs of each layer. `code` outputs the mean and the log variance of z.
        self.layers = {"encode": (hidden, features), "code": (2 * latent, hidden), "decode": (hidden, latent), "image": (features, hidden)}
        check_start(start, initial_std, l2, self.layers)

    def initial_parameters(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws the parameters of one member: a weight [outputs, inputs] and a bias [outputs, 1] per layer."""
        return initial_layers(self.layers, self.start, self.initial_std, generator)

    def losses(self, parameters: dict[str, Tensor], inputs: Tensor, targets: Tensor, noise: Sequence[torch.Generator]) -> Tensor:
        """Returns minus the lower bound with one draw of z per image; see `Model.losses`.

        Args:
            parameters, noise: see `Model.losses`.
            inputs: pixels in [0, 1], shape [streams, batch, features].
            targets: not used.
        """
        streams, batch, features = inputs.shape
        if self.pixels == "resampled":
            inputs = torch.stack([torch.bernoulli(x, generator=g) for x, g in zip(inputs, noise, strict=True)])
        hidden, latent = self.layers["decode"]
        weight, bias = parameters["encode.weight"].view(streams, -1, features), parameters["encode.bias"].view(streams, -1, 1)
        activity = softplus(affine(weight, bias, inputs.mT).view(-1, hidden, batch))
        mean, log_variance = affine(parameters["code.weight"], parameters["code.bias"], activity).float().chunk(2, 1)
        draws = torch.stack([torch.randn(latent, batch, generator=g, device=inputs.device) for g in noise])
        deviation = (log_variance / 2).exp()
        z = torch.addcmul(mean, deviation, for_members(draws, len(mean)))
        activity = softplus(affine(parameters["decode.weight"], parameters["decode.bias"], z))
        logits = affine(parameters["image.weight"], parameters["image.bias"], activity)
        # Losses are float32 even if products are bfloat16: each sums 784 pixels.
        misfit = _BernoulliMisfit.apply(logits.float().view(streams, -1, features, batch), inputs.mT.contiguous().unsqueeze(1))
        return misfit.view(-1, batch) + (mean.square() + deviation.square() - 1 - log_variance).sum(1) / 2

    def measures(self, parameters: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Returns `cost`: `losses` with the same random numbers at every call; shape [members, batch]."""
        noise = torch.Generator(inputs.device).manual_seed(0)
        return {"cost": self.losses(parameters, inputs, targets, [noise])}

    def penalised(self, parameters: dict[str, Tensor]) -> list[Tensor]:
        """Returns all parameters: the prior includes biases."""
        return list(parameters.values())


class _BernoulliMisfit(torch.autograd.Function):
    """Computes -log p(pixels | logits), summed over pixels. The closed form of its gradient halves the passes over memory."""

    @staticmethod
    def forward(ctx, logits, pixels):
        ctx.save_for_backward(logits, pixels)
        return softplus(logits).sub_(logits * pixels).sum(2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, pull):
        logits, pixels = ctx.saved_tensors
        return logits.sigmoid().sub_(pixels).mul_(pull.unsqueeze(2)), None
