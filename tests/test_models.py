"""The models: against torch.nn and NumPy in float64, their size, start and dropout, populations against solo runs."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional

import optim
from experiments.models.convolutional_network import ConvolutionalNetwork
from experiments.models.layers import dropout
from experiments.models.logistic_regression import LogisticRegression
from experiments.models.multilayer_network import MultilayerNetwork
from experiments.models.variational_autoencoder import VariationalAutoencoder
from experiments.training.loop import train
from experiments.training.plan import Plan, Training
from populations import generators, population

CPU = torch.device("cpu")
MULTILAYER, CONVOLUTIONAL, AUTOENCODER = (
    partial(MultilayerNetwork, 784, 10), partial(ConvolutionalNetwork, 3072, 10), partial(VariationalAutoencoder, 784, 10),
)  # fmt: skip


def network(parameters: dict[str, torch.Tensor], member: int) -> nn.Sequential:
    """One member in torch.nn's parts, in the usual order, float64."""
    parts: list[nn.Module] = []
    for name in (name for name in parameters if name.endswith("weight")):
        weight, bias = (parameters[key][member].detach().double() for key in (name, name.replace("weight", "bias")))
        if weight.ndim == 4:
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding="same", dtype=torch.float64)
            parts += [layer, nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
        else:
            layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
            parts += [nn.Flatten(), layer, nn.ReLU()]
        layer.weight.data, layer.bias.data = weight, bias[:, 0]
    return nn.Sequential(*parts[:-1])


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (partial(MultilayerNetwork, 12, hidden=7), (12,)),
        (partial(ConvolutionalNetwork, 2 * 9 * 9, planes=2, channels=(4, 5), kernel=3, hidden=7), (2, 9, 9)),
    ],
)
def test_costs_errors_and_gradients_are_those_of_torchs_network(make, shape):
    model = make(classes=3, l2=torch.tensor([0.1, 0.2] * 2))
    parameters = population(model, 4)
    x, y = torch.rand(2, 5, *shape), torch.randint(0, 3, (2, 5))
    losses, penalty, errors = (
        model.losses(parameters, x.flatten(2), y, generators(2)),
        model.penalty(parameters),
        model.measures(parameters, x.flatten(2), y)["error"],
    )
    costs = model.differentiate(parameters, x.flatten(2), y, generators(2))
    for member in range(4):
        solo, stream = network(parameters, member), member // 2
        scores = solo(x[stream].double())
        expected = functional.cross_entropy(scores, y[stream], reduction="none")
        np.testing.assert_allclose(losses[member].detach(), expected.detach(), rtol=1e-5)  # float32
        np.testing.assert_allclose(costs[member], expected.mean().detach(), rtol=1e-5)
        np.testing.assert_array_equal(errors[member], (scores.argmax(1) != y[stream]).float())
        layers = [layer for layer in solo if hasattr(layer, "weight")]
        squares = [0.05, 0.1][member % 2] * sum(layer.weight.square().sum() for layer in layers)
        np.testing.assert_allclose(penalty[member].detach(), squares.detach(), rtol=1e-5)
        (expected.mean() + squares).backward()
        for name, layer in zip(model.layers, layers, strict=True):
            np.testing.assert_allclose(parameters[f"{name}.weight"].grad[member], layer.weight.grad, rtol=1e-4, atol=1e-7)
            np.testing.assert_allclose(parameters[f"{name}.bias"].grad[member][:, 0], layer.bias.grad, rtol=1e-4, atol=1e-7)


MODELS = {
    "logistic, images": (partial(LogisticRegression, dropout=0.25, initial_std=0.1), "images"),
    "logistic, words": (partial(LogisticRegression, dropout=0.25, initial_std=0.1), "words"),
    "multilayer": (partial(MultilayerNetwork, hidden=8, dropout=0.5, input_dropout=0.1), "images"),
    "convolutional": (partial(ConvolutionalNetwork, channels=(4,), hidden=8, dropout=0.5, input_dropout=0.1), "images"),
    "autoencoder": (partial(VariationalAutoencoder, hidden=8, latent=2), "images"),
    "autoencoder, resampled": (partial(VariationalAutoencoder, hidden=8, latent=2, pixels="resampled"), "images"),
}


@pytest.mark.parametrize("name", MODELS)
def test_members_of_a_population_agree_with_solo_runs(request, name):
    """Three step sizes under two seeds, where a model takes them with per-member penalties, against the same six one by one."""
    make, source = MODELS[name]
    dataset, plan = request.getfixturevalue(source), Plan(epochs=3, batch_size=32, schedule="inverse_sqrt_epoch")
    lrs, l2s, seeds = [1e-3, 1e-2, 1e-1], [0.0, 1e-3, 1e-2], [0, 7]
    if "autoencoder" in name:
        l2s = [1e-3] * 3

    def run(lr, l2, seeds, per_seed):
        model = make(dataset.train.inputs.shape[1], dataset.classes, l2=l2)
        return train(Training(model, partial(optim.Adam, lr=lr), dataset, seeds, per_seed, plan, CPU))[0]

    together = run(torch.tensor(lrs * 2, dtype=torch.float64), torch.tensor(l2s * 2) if len(set(l2s)) > 1 else l2s[0], seeds, 3)
    for member in range(6):
        alone = run(lrs[member % 3], l2s[member % 3], [seeds[member // 3]], 1)
        found = together[together["member"] == member].drop(columns="member").reset_index(drop=True)
        # float32 sums in another order, carried through 30 steps.
        pd.testing.assert_frame_equal(found, alone.drop(columns="member"), rtol=2e-5, atol=0)


@pytest.mark.parametrize(
    ("model", "numbers"),
    [
        (MultilayerNetwork(784, 10), [784_000 + 1000, 1_000_000 + 1000, 10_000 + 10]),
        (ConvolutionalNetwork(3072, 10), [75 * 64 + 64, 1600 * 64 + 64, 1600 * 128 + 128, 4 * 4 * 128 * 1000 + 1000, 1000 * 10 + 10]),
        (VariationalAutoencoder(784, 10), [784 * 500 + 500, 500 * 100 + 100, 50 * 500 + 500, 500 * 784 + 784]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_is_of_the_papers_size(model, numbers):
    parameters = list(model.initial_parameters(torch.Generator()).values())
    assert [weight.numel() + bias.numel() for weight, bias in zip(parameters[::2], parameters[1::2], strict=True)] == numbers


def test_a_convolutional_networks_inputs_and_units_are_dropped_in_training_alone_and_alike_in_a_stream():
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


def test_a_multilayer_networks_inputs_and_units_are_dropped_in_training_alone_and_alike_in_a_stream():
    model = MultilayerNetwork(4000, 2, hidden=1, layers=1, input_dropout=0.25)
    ones = {name: torch.zeros(2, *p.shape) for name, p in model.initial_parameters(torch.Generator()).items()}
    ones["layer1.weight"] += 1 / 4000  # the hidden unit is the mean of the inputs
    ones["layer2.weight"][:, 0] = 1.0
    x, y = torch.ones(1, 50, 4000), torch.zeros(1, 50, dtype=torch.int64)
    losses = model.losses(ones, x, y, generators(1))
    np.testing.assert_array_equal(losses[0], losses[1])
    hidden = -(losses[0].double().exp() - 1).log()
    assert hidden.mean().item() == pytest.approx(1.0, abs=5 * (0.25 / 0.75 / 4000 / 50) ** 0.5)
    assert hidden.std().item() == pytest.approx((0.25 / 0.75 / 4000) ** 0.5, rel=0.5)
    np.testing.assert_allclose(model.measures(ones, x, y)["cost"], np.log1p(np.exp(-1.0)), rtol=1e-5)

    assert (dropout(torch.ones(1, 1, 1000), 1 - 1e-7, generators(1)) == 0).all()  # of 65,536, one would remain

    model = MultilayerNetwork(3, 2, hidden=1, layers=1, dropout=0.5)
    ones = {name: torch.zeros(2, *p.shape) for name, p in model.initial_parameters(torch.Generator()).items()}
    ones["layer1.bias"] += 1.0
    ones["layer2.weight"][:, 0] = 1.0
    losses = model.losses(ones, torch.zeros(1, 10_000, 3), torch.zeros(1, 10_000, dtype=torch.int64), generators(1))
    np.testing.assert_array_equal(losses[0], losses[1])
    np.testing.assert_allclose(np.unique(losses[0]), [np.log1p(np.exp(-2.0)), np.log(2)], rtol=1e-5)  # 2 = 1 / (1 - 0.5), or 0
    assert (losses[0] < 0.5).float().mean().item() == pytest.approx(0.5, abs=5 * 0.5 / 100)


@pytest.mark.parametrize(
    ("start", "deviation"), [("fan_in_uniform", 3**-0.5 / 30), ("he_normal", 2**0.5 / 30), ("fan_in", 1 / 30), ("normal", 0.02)]
)
def test_initial_weights_have_the_deviation_that_their_name_says(start, deviation):
    parameters = MultilayerNetwork(900, 10, start=start, initial_std=0.02).initial_parameters(torch.Generator().manual_seed(0))
    assert parameters["layer1.weight"].std().item() == pytest.approx(deviation, rel=0.01)
    assert parameters["layer1.weight"].mean().item() == pytest.approx(0, abs=5 * deviation / 900_000**0.5)
    assert bool(parameters["layer2.bias"].any()) == (start == "fan_in_uniform")


def test_each_layer_may_start_with_a_deviation_of_its_own():
    deviations = {"stage1": 1e-4, "stage2": 0.01, "hidden": 0.1, "scores": 1.0}
    sizes = dict(channels=(8, 8), hidden=40, start="normal")
    start = ConvolutionalNetwork(3 * 64, 10, initial_std=deviations, **sizes).initial_parameters(torch.Generator().manual_seed(0))
    for layer, deviation in deviations.items():
        assert start[f"{layer}.weight"].std() == pytest.approx(deviation, rel=0.15)  # of 400 numbers or more
        assert start[f"{layer}.bias"].abs().max() == 0


# Beside what experiments/schema.py knows, of which tests/test_run.py tries every rule: a row of it for each model.
@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        (CONVOLUTIONAL, {"planes": 4}, "model.planes=4 is invalid: expected a number that divides 3072 inputs into square images"),
        (CONVOLUTIONAL, {"kernel": 4}, "model.kernel=4 is invalid: expected an odd number above 0"),
        (CONVOLUTIONAL, {"channels": ()}, r"model.channels=\(\) is invalid: expected whole numbers above 0"),
        (CONVOLUTIONAL, {"channels": 64}, "model.channels=64 is invalid: expected whole numbers above 0"),
        (CONVOLUTIONAL, {"planes": -3}, "model.planes=-3 is invalid: expected a whole number above 0"),
        (MULTILAYER, {"dropout": 1.0}, r"model.dropout=1.0 is invalid: expected a number in \[0, 1\)"),
        (MULTILAYER, {"start": "zero"}, "model.start=zero is invalid: expected one of fan_in_uniform, fan_in, he_normal, normal"),
        (
            MULTILAYER,
            {"initial_std": {"layer1": 1}},
            "model.initial_std={'layer1': 1} is invalid: expected a number for each of layer1, layer2",
        ),
        (
            MULTILAYER,
            {"initial_std": dict.fromkeys(["layer1", "layer2", "layer3"], -1)},
            "model.initial_std.layer1=-1 is invalid: expected a",
        ),
        (AUTOENCODER, {"pixels": "binary"}, "model.pixels=binary is invalid: expected one of grey, resampled"),
        (AUTOENCODER, {"l2": "much"}, "model.l2=much is invalid: expected a finite number from 0 up"),
    ],
)
def test_wrong_arguments_are_named(make, arguments, words):
    with pytest.raises(ValueError, match=words):
        make(**arguments)
