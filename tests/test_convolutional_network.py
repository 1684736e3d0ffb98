"""The network of figure 3 against torch.nn's, its size, its dropout, populations against solo runs."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from experiments.models.convolutional_network import ConvolutionalNetwork
from populations import generators, population


def network(parameters: dict[str, torch.Tensor], member: int) -> nn.Sequential:
    """One member in torch.nn's parts, in the usual order, float64."""
    parts = []
    for name in (name for name in parameters if name.endswith("weight")):
        weight, bias = parameters[name][member].detach().double(), parameters[name.replace("weight", "bias")][member].detach().double()
        if weight.ndim == 4:
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding="same", dtype=torch.float64)
            after = [nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
        else:
            layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
            after = [nn.ReLU()] if name.startswith("hidden") else []
            parts += [nn.Flatten()] if name.startswith("hidden") else []
        layer.weight.data, layer.bias.data = weight, bias[:, 0]
        parts += [layer, *after]
    return nn.Sequential(*parts)


def test_costs_errors_and_gradients_are_those_of_torchs_network():
    model = ConvolutionalNetwork(2 * 9 * 9, 3, planes=2, channels=(4, 5), kernel=3, hidden=7, l2=torch.tensor([0.1, 0.2] * 2))
    parameters = population(model, 4)
    x, y = torch.rand(2, 5, 162), torch.randint(0, 3, (2, 5))
    losses, penalty = model.losses(parameters, x, y, generators(2)), model.penalty(parameters)
    (losses.mean(1) + penalty).sum().backward()
    for member in range(4):
        solo, stream = network(parameters, member), member // 2
        scores = solo(x[stream].double().view(5, 2, 9, 9))
        expected = functional.cross_entropy(scores, y[stream], reduction="none")
        np.testing.assert_allclose(losses[member].detach(), expected.detach(), rtol=1e-5)  # float32
        layers = [layer for layer in solo if hasattr(layer, "weight")]
        (expected.mean() + [0.05, 0.1][member % 2] * sum(layer.weight.square().sum() for layer in layers)).backward()
        for name, layer in zip(model.layers, layers, strict=True):
            np.testing.assert_allclose(parameters[f"{name}.weight"].grad[member], layer.weight.grad, rtol=1e-4, atol=1e-7)
            np.testing.assert_allclose(parameters[f"{name}.bias"].grad[member][:, 0], layer.bias.grad, rtol=1e-4, atol=1e-7)
        np.testing.assert_array_equal(model.measures(parameters, x, y)["error"][member], (scores.argmax(1) != y[stream]).float())


def test_it_is_the_papers_size():
    parameters = ConvolutionalNetwork(3072, 10).initial_parameters(torch.Generator())
    convolutions = (75 * 64 + 64) + (1600 * 64 + 64) + (1600 * 128 + 128)
    connected = (4 * 4 * 128 * 1000 + 1000) + (1000 * 10 + 10)
    assert sum(parameter.numel() for parameter in parameters.values()) == convolutions + connected == 2_371_266


def test_inputs_and_units_are_dropped_in_training_alone_and_alike_in_a_stream():
    model = ConvolutionalNetwork(3 * 8 * 8, 3, channels=(4,), hidden=50, dropout=0.5, input_dropout=0.2)
    start = model.initial_parameters(torch.Generator().manual_seed(0))
    twins = {name: torch.stack([tensor] * 4) for name, tensor in start.items()}
    x, y = torch.rand(1, 6, 192, generator=torch.Generator().manual_seed(1)).expand(2, -1, -1), torch.zeros(2, 6, dtype=torch.int64)
    losses = model.losses(twins, x, y, generators(2))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=0)  # groups of a convolution differ in their rounding
    torch.testing.assert_close(losses[2], losses[3], rtol=1e-5, atol=0)
    assert not torch.isclose(losses[0], losses[2], rtol=1e-4).all()
    costs = model.measures(twins, x, y)["cost"]
    np.testing.assert_allclose(costs[0], costs[3], rtol=1e-6)
    again = model.losses(twins, x, y, generators(2))
    torch.testing.assert_close(again, losses, rtol=1e-5, atol=0)  # the same generators, the same noise


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"planes": 4}, "model.planes=4 is invalid: expected a number that divides 3072 inputs into square images"),
        ({"kernel": 4}, "model.kernel=4 is invalid: expected an odd number above 0"),
        ({"channels": ()}, r"model.channels=\(\) is invalid: expected whole numbers above 0"),
        ({"dropout": 1}, r"model.dropout=1 is invalid: expected a number in \[0, 1\)"),
        ({"l2": -1}, "model.l2=-1 is invalid: expected a finite number from 0 up"),
        ({"channels": 64}, "model.channels=64 is invalid: expected whole numbers above 0"),
        ({"hidden": 0}, "model.hidden=0 is invalid: expected a whole number above 0"),
        ({"planes": -3}, "model.planes=-3 is invalid: expected a whole number above 0"),
        ({"start": "zero"}, "model.start=zero is invalid: expected one of fan_in_uniform, fan_in, he_normal, normal"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        ConvolutionalNetwork(3072, 10, **arguments)


def test_each_layer_may_start_with_a_deviation_of_its_own():
    deviations = {"stage1": 1e-4, "stage2": 0.01, "hidden": 0.1, "scores": 1.0}
    sizes = dict(channels=(8, 8), hidden=40, start="normal")
    start = ConvolutionalNetwork(3 * 64, 10, initial_std=deviations, **sizes).initial_parameters(torch.Generator().manual_seed(0))
    for layer, deviation in deviations.items():
        assert start[f"{layer}.weight"].std() == pytest.approx(deviation, rel=0.15)  # of 400 numbers or more
        assert start[f"{layer}.bias"].abs().max() == 0
    with pytest.raises(
        ValueError, match=r"model.initial_std={'stage1': 1} is invalid: expected a number for each of stage1, stage2, hidden, scores"
    ):
        ConvolutionalNetwork(3 * 64, 10, initial_std={"stage1": 1}, **sizes)
    with pytest.raises(ValueError, match=r"model.initial_std.hidden=-1 is invalid: expected a finite number from 0 up"):
        ConvolutionalNetwork(3 * 64, 10, initial_std=deviations | {"hidden": -1}, **sizes)
