"""The autoencoder of figure 4: its cost against NumPy in float64."""

import numpy as np
import pytest
import torch

from experiments.models.variational_autoencoder import VariationalAutoencoder
from populations import generators


def stacked(model, members: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    starts = [model.initial_parameters(generator) for _ in range(members)]
    return {name: scale * torch.stack([start[name] for start in starts]) + 0.01 for name in starts[0]}


def test_the_lower_bound_written_out():
    """-log p(x|z) pixel by pixel and KL(N(mu, sigma^2) || N(0, 1)) by its definition, with the draws that the generator makes."""
    model = VariationalAutoencoder(12, 0, hidden=7, latent=3, initial_std=0.5)
    parameters = stacked(model, 4)
    x = torch.rand(2, 5, 12, generator=torch.Generator().manual_seed(1))
    losses = model.losses(parameters, x, None, generators(2))
    assert losses.shape == (4, 5)
    p = {name: value.double().numpy() for name, value in parameters.items()}
    draws = [torch.randn(3, 5, generator=generator).double().numpy() for generator in generators(2)]
    for member in range(4):
        image, eps = x[member // 2].double().numpy().T, draws[member // 2]
        w = {name: value[member] for name, value in p.items()}
        hidden = np.log1p(np.exp(w["encode.weight"] @ image + w["encode.bias"]))
        code = w["code.weight"] @ hidden + w["code.bias"]
        mean, deviation = code[:3], np.exp(code[3:] / 2)
        hidden = np.log1p(np.exp(w["decode.weight"] @ (mean + deviation * eps) + w["decode.bias"]))
        probability = 1 / (1 + np.exp(-(w["image.weight"] @ hidden + w["image.bias"])))
        fit = (image * np.log(probability) + (1 - image) * np.log(1 - probability)).sum(0)
        divergence = (np.log(1 / deviation) + (deviation**2 + mean**2) / 2 - 0.5).sum(0)
        np.testing.assert_allclose(losses[member].detach(), divergence - fit, rtol=1e-5)


def test_bfloat16_products_leave_the_cost_of_dark_pixels():
    """784 black pixels whose logits are -8 cost 784 ln(1 + e^-8), of which bfloat16 with its three digits would leave nothing."""
    model = VariationalAutoencoder(784, 10, hidden=4, latent=2, initial_std=0.0)
    parameters = {name: torch.zeros_like(value) for name, value in stacked(model, 1).items()}
    parameters["image.bias"] -= 8
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.losses(parameters, torch.zeros(1, 3, 784), None, generators(1))
    assert losses.dtype == torch.float32
    # torch adds and takes away 8 before it sums: 784 times 5e-7 at most
    np.testing.assert_allclose(losses, 784 * np.log1p(np.exp(-8)), atol=4e-4)


def test_the_papers_size():
    parameters = VariationalAutoencoder(784, 10).initial_parameters(torch.Generator().manual_seed(0))
    # 784 * 500 + 500, 500 * 100 + 100, 50 * 500 + 500, 500 * 784 + 784
    assert sum(value.numel() for value in parameters.values()) == 392_500 + 50_100 + 25_500 + 392_784
    for name, value in parameters.items():
        assert value.std() == pytest.approx(0.01, rel=0.02) if name.endswith("weight") else not value.any()


def test_resampled_pixels_are_0_or_1_and_grey_on_average():
    model = VariationalAutoencoder(3, 0, hidden=2, latent=1, pixels="resampled", initial_std=0.0)
    zeros = {name: torch.zeros_like(value) for name, value in stacked(model, 1).items()}
    zeros["image.bias"] += torch.tensor([[5.0], [0.0], [0.0]])
    x = torch.tensor([0.25, 0.0, 1.0]).expand(1, 20_000, 3)
    losses = model.losses(zeros, x, None, generators(1))
    # all but the first pixel cost ln 2; the first costs ln(1 + e^5), less 5 where it is drawn as 1
    ones = losses[0] < losses.mean()
    assert losses.unique().numel() == 2
    assert ones.float().mean().item() == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / 20_000) ** 0.5)


def test_the_prior_of_the_parameters_is_a_penalty_on_all_of_them():
    """-log N(0, I) of 1,000 images' parameters is |theta|^2 / 2, of which each image's mean cost bears a thousandth."""
    model = VariationalAutoencoder(12, 3, hidden=7, latent=3, l2=1e-3)
    parameters = stacked(model, 2)
    squares = sum(value.double().square().sum((1, 2)) for value in parameters.values())
    np.testing.assert_allclose(model.penalty(parameters), squares / 2000, rtol=1e-6)
