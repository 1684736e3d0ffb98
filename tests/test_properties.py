"""What the paper claims without a figure: each experiment's arithmetic at small size, against closed forms and typed-in numbers."""

import math
import sys
from functools import partial

import numpy as np
import pytest
import torch
import yaml

import optim
import run as program
from experiments.errors import one_sentence_errors
from experiments.properties import annealing, averaging, invariance, kinship, moments, norms, regret, step_bounds, tracking
from experiments.properties.trajectories import follow, last
from experiments.records import PROJECT, Run, catalogue
from scripts.claims.judging import FAILS, HOLDS, SEEDS, stated
from scripts.claims.properties import property_claims
from scripts.figures import __main__ as figures

NAMES = sorted(path.stem for path in (PROJECT / "conf/property").glob("*.yaml"))


def test_following_takes_the_given_gradients_and_the_papers_schedule():
    path = [
        (t, theta.item())
        for t, theta, _ in follow(
            lambda parameters: optim.SGDNesterov(parameters, lr=1.0, momentum=0.0),
            torch.zeros(1, dtype=torch.float64),
            lambda theta, t: torch.full_like(theta, -1.0),
            3,
            decaying=True,
        )
    ]
    assert path == [(1, 1.0), (2, pytest.approx(1 + 2**-0.5)), (3, pytest.approx(1 + 2**-0.5 + 3**-0.5))]


def test_rescaled_gradients_change_nothing_without_eps_and_more_with_more_of_it():
    table = invariance.measure([0], steps=50, dimensions=8, factors=[10.0, 1e4], eps=[0.0, 1e-8, 1e-3])
    drift = table.set_index(["optimizer", "eps", "factor"])["drift"].sort_index()
    for optimizer in ("Adam", "AdaMax", "AdaGrad"):
        assert drift[optimizer, 0.0].max() < 1e-12  # rounding
        assert drift[optimizer, 1e-8, 10.0] < drift[optimizer, 1e-8, 1e4] < drift[optimizer, 1e-3, 1e4]
    assert drift["SGDNesterov", 0.0, 10.0] > 0.1


def test_the_bounds_of_a_step_are_the_typed_in_ones_and_attained():
    assert step_bounds.paper_bound("Adam", 0.9, 0.999) == pytest.approx(3.16227766)
    assert step_bounds.paper_bound("Adam", 0.9, 0.9) == step_bounds.paper_bound("AdaMax", 0.9, 0.999) == 1
    assert step_bounds.exact_bound("Adam", 0.9, 0.999) == pytest.approx(7.27029, rel=1e-5)
    assert step_bounds.exact_bound("AdaMax", 0.9, 0.999) == pytest.approx(1.00909, rel=1e-5)
    assert step_bounds.exact_bound("Adam", 0.99, 0.9) == step_bounds.exact_bound("AdaMax", 0.99, 0.9) == math.inf
    kinds = ["dense", "sparse", "single", "growing", "shrinking"]
    table = step_bounds.measure([0], steps=400, coordinates=5, betas=[[0.9, 0.99], [0.5, 0.9]], kinds=kinds)
    largest = table.set_index(["optimizer", "beta1", "kind"])["largest"]
    assert largest["Adam", 0.9, "growing"] == pytest.approx(step_bounds.exact_bound("Adam", 0.9, 0.99), rel=0.01)  # 1 - 0.99^400 = 0.98
    assert largest["AdaMax", 0.9, "shrinking"] == pytest.approx(1.1, rel=1e-9)
    assert largest["Adam", 0.5, "single"] == pytest.approx(0.5 / math.sqrt(0.1), rel=1e-9)
    assert (table["largest"] <= table["exact_bound"] * (1 + 1e-9)).all()


def test_the_moments_are_those_of_equations_1_and_4():
    np.testing.assert_allclose(moments.closed_sum(torch.tensor([[1.0], [4.0]], dtype=torch.float64), 0.5), [[0.5], [2.25]])
    table = moments.measure([0], steps=30, draws=3000, beta2=0.9, drifts=[0.0, 0.05])
    assert table["recursion_error"].max() < 1e-13
    drifting = table[table["drift"] == 0.05]
    t = drifting["t"].to_numpy()
    # (1 - beta2) sum_i (beta2 / e^0.05)^(t - i), a geometric series
    ratio = 0.9 / np.exp(0.05)
    np.testing.assert_allclose(drifting["expected"], 0.1 * (1 - ratio**t) / (1 - ratio), rtol=1e-12)
    # Standard error of a mean of 3000 squares, sqrt(2 / 3000) = 0.026, less for averages of many.
    np.testing.assert_allclose(table["v"] / table["expected"], 1, atol=0.1)
    still = table[table["drift"] == 0]
    np.testing.assert_allclose(still["vhat"] * (1 - 0.9 ** still["t"]), still["v"], rtol=1e-12)


def test_the_first_ratio_of_the_moments_is_1_and_noise_makes_it_small():
    parameter = torch.zeros(2, 3, requires_grad=True)
    optimizer = optim.Adam([parameter], eps=0.0)
    parameter.grad = torch.tensor([[1.0, -2.0, 1e-3]] * 2)
    optimizer.step()
    np.testing.assert_allclose(annealing.ratios(optimizer, {"weight": parameter}), 1, rtol=1e-5)
    parameter.grad = -parameter.grad
    optimizer.step()
    # mhat = (0.9 * 0.1 - 0.1) g / (1 - 0.81), vhat = g^2
    np.testing.assert_allclose(annealing.ratios(optimizer, {"weight": parameter}), 0.01 / 0.19, rtol=1e-4)


def test_regret_is_measured_against_the_best_point_and_the_bound_is_that_of_the_theorem():
    linear = regret.Stream(torch.tensor([[1.0, -1.0], [1.0, 2.0], [-0.5, 2.0]], dtype=torch.float64))
    assert linear.best(3).tolist() == [-1.0, -1.0]
    assert linear.costs(linear.best(3), 0, 3).tolist() == [0.0, -3.0, -1.5]
    logistic = regret.stream("dense", 200, 3, seed=0)
    best = logistic.best(200)
    total = sum(logistic.gradient(best, t) for t in range(1, 201))
    assert total.abs().max() < 1e-3  # an optimum
    g = torch.tensor([[3.0], [4.0]], dtype=torch.float64)
    bound = regret.theorem_bound(
        torch.tensor([[0.0], [1.0]], dtype=torch.float64),
        torch.tensor([2.0]).double(),
        g,
        torch.tensor([8.0]).double(),
        0.5,
        0.5,
        0.75,
        0.5,
    )
    gamma = 0.25 / math.sqrt(0.75)
    expected = 4 / (2 * 0.5 * 0.5) * 4 + 0.5 * 1.5 * 4 / (0.5 * 0.5 * (1 - gamma) ** 2) * 5 + 4 * 4 * 0.5 / (2 * 0.5 * 0.5 * 0.25)
    assert bound == pytest.approx(expected)
    assert regret.theorem_bound(g, g[0], g, g[0], 0.5, 0.99, 0.5, 0.5) == math.inf


def test_adam_goes_to_the_worst_point_of_the_counterexample_and_amsgrad_to_the_best():
    table = regret.measure([0], steps=600, dimensions=2, alpha=0.3, lambda_=0.99, horizons=4)
    end = table[(table["problem"] == "counterexample") & (table["T"] == 600)].set_index("optimizer")["average_regret"]
    # At theta = 1 three steps cost C - 2 = 1, at the best point -1: 2/3 each.
    assert end["Adam, small beta2"] == pytest.approx(2 / 3, abs=0.05)
    assert end["AMSGrad, small beta2"] < 0.1
    adam = table[table["optimizer"] == "Adam"]
    assert (adam["average_regret"] <= adam["average_bound"]).all()


def test_adam_tends_to_adagrad_in_proportion_to_1_minus_beta2():
    table = kinship.measure([0], steps=100, dimensions=5, alpha=0.1, one_minus_beta2=[1e-3, 1e-4])
    distance = table.set_index(["relative", "bias_correction", "one_minus_beta2"])["distance"].sort_index()
    assert distance["AdaGrad", True, 1e-3] / distance["AdaGrad", True, 1e-4] == pytest.approx(10, rel=0.1)
    assert distance["AdaGrad", False, 1e-4] > 1
    assert distance["RMSProp", False].max() < 1e-12
    assert distance["RMSProp with averaged gradients", False].max() < 1e-12  # rounding
    assert distance["RMSProp with averaged gradients", True].min() > 1e-3
    assert distance["RMSProp with momentum", False].min() > 1e-3


def test_rmsprop_with_averaged_gradients_takes_the_typed_in_steps():
    rho = torch.tensor([0.75], dtype=torch.float64)
    make = partial(kinship.AveragedRMSProp, lr=1.0, rho=rho, average=0.5)
    path = [
        theta.item()
        for _, theta, _ in follow(
            make, torch.zeros(1, 1, dtype=torch.float64), lambda _, t: torch.full((1, 1), 2.0 * t, dtype=torch.float64), 2
        )
    ]
    # m = 1, v = 1; then m = 2.5, v = 4.75
    assert path == [-1.0, pytest.approx(-1 - 2.5 / math.sqrt(4.75))]


def test_a_target_that_stands_still_without_noise_is_found_by_all():
    table = tracking.measure([0], steps=2000, dimensions=10, walk=0.0, noise=0.0, lrs=[0.1, 0.3], rare=0.2)
    drifting = table[table["problem"] == "drifting"]
    assert drifting["error"].max() == 0  # the target is the start
    sparse = table[table["metric"] == "rare features"].groupby("optimizer")["error"].min()
    assert sparse.max() < 0.05


def test_p_norms_tend_to_the_largest_and_p_2_is_adam():
    table = norms.measure([0], steps=60, dimensions=7, alpha=0.01, norms=[2, 16, 64, 1024])
    distance = table.set_index(["dtype", "p"])["distance"]
    assert distance["float64", 2] > distance["float64", 16] > distance["float64", 64]
    assert distance["float64", 64] < 0.05
    lost = table.set_index(["dtype", "p"])["lost"]
    assert lost["float64", 64] == lost["float32", 2] == 0 < lost["float32", 64]
    gradients = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start, beta2 = torch.zeros(3, dtype=torch.float64), 0.99
    ends = [
        last(follow(make, start, lambda _, t: gradients[t - 1], 20))
        for make in (lambda p: optim.LpAdam(p, betas=(0.9, beta2), p=2), lambda p: optim.Adam(p, betas=(0.9, beta2**2), eps=0.0))
    ]
    np.testing.assert_allclose(*ends, rtol=1e-12)


def test_averages_of_parameters_that_do_not_move_are_themselves_but_for_the_bias(monkeypatch, images):
    monkeypatch.setattr(averaging, "load", lambda name, **_: images)
    rates = {"logistic regression": 0.0, "multilayer network": 0.0}
    table = averaging.measure([0, 1], epochs=2, batch_size=100, lr=rates, beta=0.9, hidden=5, snapshots=2, examples=300)
    cost = table[table["model"] == "multilayer network"].pivot_table(index=["seed", "t"], columns="estimate", values="test_cost")
    for estimate in ("exponential", "Polyak-Ruppert"):
        np.testing.assert_allclose(cost[estimate], cost["last iterate"], rtol=1e-5)
    assert ((cost["exponential, uncorrected"] - cost["last iterate"]).abs() > 1e-4).all()


SMALL = {
    "invariance": "steps=20",
    "step_bounds": "steps=50",
    "moments": "steps=20",
    "kinship": "steps=50",
    "norms": "steps=50",
    "regret": "steps=100",
    "tracking": "steps=100",
    "annealing": "epochs=2",
    "averaging": "epochs=2",
}


@pytest.mark.parametrize("name", NAMES)
def test_every_property_is_measured_judged_and_drawn(name, monkeypatch, tmp_path, images, capsys):
    for module in (annealing, averaging):
        monkeypatch.setattr(module, "load", lambda name, **_: images)
    key, _, size = SMALL[name].partition("=")
    monkeypatch.setattr(Run, "has_default_settings", True)  # as if this small size were the configured one
    arguments = [
        "run.py",
        "--config-name",
        "properties",
        f"property={name}",
        f"results={tmp_path}",
        "seeds=[0,1]",
        f"property.{key}={size}",
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    program.main()
    (run,) = catalogue(tmp_path)
    assert (run.measured, run.data, run.extent) == (name, "real", {"seeds": [0, 1]})
    assert run.identity["property"][key] == int(size)
    assert run.table()["seed"].nunique() == 2
    program.main()
    assert "is complete" in capsys.readouterr().out
    judged = property_claims(tmp_path)
    assert len(judged) >= len(stated("properties", name))
    assert {line["verdict"] for line in judged} <= {HOLDS, SEEDS, FAILS}
    figures.all_properties(tmp_path, tmp_path / "figures")
    assert {path.name for path in (tmp_path / "figures" / "properties").iterdir()} == {f"{name}.png", f"{name}.svg"}


def test_the_properties_configured_are_those_judged_and_those_made():
    assert set(NAMES) == set(stated("properties")) == set(SMALL)
    (made,) = yaml.safe_load((PROJECT / "conf/sweeps/properties.yaml").read_text())["parallel"]
    assert set(made.removeprefix("property=").split(",")) == set(NAMES)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["property=nothing"], "property=nothing is unknown: choose one of"),
        (["property.stepz=3"], "did you mean steps"),
        (["+property.foo=3"], "property.foo is not a configuration key: the keys are property.steps"),
        (["+foo=3"], "foo is not a configuration key: the keys are seeds, threads"),
        (["property.steps=0"], "property.steps=0 is invalid: expected a whole number above 0"),
        (["property.eps=[]"], r"property.eps=\[\] is invalid"),
        (["seeds=3"], "seeds=3 is invalid: expected a list, each a whole number from 0 up"),
        (["property.factors=5"], "property.factors=5 is invalid: expected a list"),
        (["property=step_bounds", "property.betas=[[0.9,1.5]]"], r"property.betas=\[0.9,1.5\] is invalid: expected a pair of numbers"),
        (["property=moments", "property.beta2=true"], "property.beta2=true is invalid"),
    ],
)
def test_mistakes_are_answered_in_one_sentence(monkeypatch, tmp_path, overrides, words):
    monkeypatch.setattr(sys, "argv", ["run.py", "--config-name", "properties", f"results={tmp_path}", *overrides])
    with pytest.raises(SystemExit, match=words), one_sentence_errors():
        program.main()
