"""The network of figure 2 against torch.nn's, its dropout, its initial weights, populations against solo runs."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import optim
from experiments.models.multilayer_network import MultilayerNetwork
from experiments.training.loop import train
from experiments.training.plan import Plan, Training
from populations import generators, population

CPU = torch.device("cpu")


def network(parameters: dict[str, torch.Tensor], member: int) -> nn.Sequential:
    """One member in torch.nn's parts, float64."""
    layers = []
    for name in (name for name in parameters if name.endswith("weight")):
        weight, bias = parameters[name][member].detach(), parameters[name.replace("weight", "bias")][member].detach()
        linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        linear.weight.data, linear.bias.data = weight.double(), bias[:, 0].double()
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def test_costs_errors_and_gradients_are_those_of_torchs_network():
    model = MultilayerNetwork(12, 3, hidden=7, l2=torch.tensor([0.1, 0.2] * 2))
    parameters = population(model, 4)
    x, y = torch.rand(2, 5, 12), torch.randint(0, 3, (2, 5))
    losses, penalty = model.losses(parameters, x, y, generators(2)), model.penalty(parameters)
    (losses.mean(1) + penalty).sum().backward()
    for member in range(4):
        solo, stream = network(parameters, member), member // 2
        scores = solo(x[stream].double())
        expected = functional.cross_entropy(scores, y[stream], reduction="none")
        np.testing.assert_allclose(losses[member].detach(), expected.detach(), rtol=1e-5)  # float32
        weights = sum(layer.weight.square().sum() for layer in solo if isinstance(layer, nn.Linear))
        (expected.mean() + [0.05, 0.1][member % 2] * weights).backward()
        np.testing.assert_allclose(parameters["layer1.weight"].grad[member], solo[0].weight.grad, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(parameters["layer3.bias"].grad[member][:, 0], solo[4].bias.grad, rtol=1e-4, atol=1e-7)
        measured = model.measures(parameters, x, y)
        np.testing.assert_array_equal(measured["error"][member], (scores.argmax(1) != y[stream]).float())


def test_it_is_the_papers_size():
    parameters = MultilayerNetwork(784, 10).initial_parameters(torch.Generator())
    assert sum(parameter.numel() for parameter in parameters.values()) == 784_000 + 1000 + 1_000_000 + 1000 + 10_000 + 10


def test_hidden_units_and_inputs_are_dropped_in_training_alone_and_alike_for_members_of_a_stream():
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

    model = MultilayerNetwork(3, 2, hidden=1, layers=1, dropout=0.5)
    ones = {name: torch.zeros(2, *p.shape) for name, p in model.initial_parameters(torch.Generator()).items()}
    ones["layer1.bias"] += 1.0
    ones["layer2.weight"][:, 0] = 1.0
    losses = model.losses(ones, torch.zeros(1, 10_000, 3), torch.zeros(1, 10_000, dtype=torch.int64), generators(1))
    np.testing.assert_array_equal(losses[0], losses[1])
    np.testing.assert_allclose(np.unique(losses[0]), [np.log1p(np.exp(-2.0)), np.log(2)], rtol=1e-5)  # 2 = 1 / (1 - 0.5), or 0
    assert (losses[0] < 0.5).float().mean().item() == pytest.approx(0.5, abs=5 * 0.5 / 100)


@pytest.mark.parametrize(("start", "deviation"), [("fan_in_uniform", 3**-0.5 / 30), ("he_normal", 2**0.5 / 30), ("normal", 0.02)])
def test_initial_weights_have_the_deviation_that_their_name_says(start, deviation):
    parameters = MultilayerNetwork(900, 10, start=start, initial_std=0.02).initial_parameters(torch.Generator().manual_seed(0))
    assert parameters["layer1.weight"].std().item() == pytest.approx(deviation, rel=0.01)
    assert parameters["layer1.weight"].mean().item() == pytest.approx(0, abs=5 * deviation / 900_000**0.5)
    assert bool(parameters["layer2.bias"].any()) == (start == "fan_in_uniform")


def test_members_of_a_population_agree_with_solo_runs(images):
    lrs, seeds = [1e-3, 1e-2], [0, 3]
    plan = Plan(epochs=2, batch_size=50, schedule="constant")

    def run(lr, seeds, per_seed):
        model = MultilayerNetwork(12, 3, hidden=8, dropout=0.5, input_dropout=0.1)
        return train(Training(model, lambda parameters: optim.Adam(parameters, lr=lr), images, seeds, per_seed, plan, CPU))[0]

    together = run(torch.tensor(lrs * 2, dtype=torch.float64), seeds, 2)
    for member in range(4):
        alone = run(lrs[member % 2], [seeds[member // 2]], 1)
        for column in ("cost", "train_cost", "test_cost"):
            # float32 sums in another order
            np.testing.assert_allclose(together.loc[together["member"] == member, column], alone[column], rtol=1e-5)


def test_wrong_arguments_are_named():
    for wrong, words in (
        ({"dropout": 1.0}, r"model.dropout=1.0 is invalid: expected a number in \[0, 1\)"),
        ({"input_dropout": -0.1}, "model.input_dropout=-0.1 is invalid: expected a number in"),
        ({"l2": -1}, "model.l2=-1 is invalid: expected a finite number from 0 up"),
        ({"hidden": 0}, "model.hidden=0 is invalid: expected a whole number above 0"),
        ({"start": "zero"}, "model.start=zero is invalid: expected one of fan_in_uniform, fan_in, he_normal, normal"),
    ):
        with pytest.raises(ValueError, match=words):
            MultilayerNetwork(12, 3, **wrong)
