"""What scripts.analysis reads and computes: published curves, canonical runs, distances, tables, figure 4's points."""

import numpy as np
import pandas as pd
import pytest

from made_up import SESSION, write_run, write_sweep, write_table
from scripts import tables
from scripts.analysis import figure4
from scripts.analysis.agreement import agreement, epochs_to_cost, final_costs, ranks
from scripts.analysis.distances import interval, log_ratios, rms, wiggle
from scripts.analysis.published import main_panel, panels, published, rescaled
from scripts.analysis.race import race
from scripts.analysis.runs import canonical_runs, configuration, read_measured, read_runs
from scripts.analysis.tuning import TUNING, read_tuning, settings_columns

LEFT = main_panel("fig1_left")


def published_costs(experiment: str, optimizer: str, points: int) -> np.ndarray:
    return published(experiment).query("optimizer == @optimizer").sort_values("x")["y"].to_numpy()[:points]


def test_the_published_curves_are_complete_and_hold_the_typed_in_points():
    left, right = published("fig1_left"), published("fig1_right")
    assert set(left["optimizer"]) == {"Adam", "AdaGrad", "SGDNesterov"}
    assert set(right["optimizer"]) == {"Adam", "AdaGrad", "SGDNesterov", "RMSProp"}
    adam = left[left["optimizer"] == "Adam"].set_index("x")["y"]
    assert (adam[0], adam[45]) == (pytest.approx(0.71177, abs=5e-6), pytest.approx(0.25707, abs=5e-6))


def test_the_published_curves_of_figure_1_left_wiggle_with_a_period_of_6_epochs():
    """An observation about the paper's data: their order was fixed, and six epochs of the figure are a whole number of rounds."""
    curves = {optimizer: curve.sort_values("x")["y"] for optimizer, curve in published("fig1_left").groupby("optimizer")}
    for optimizer in ("Adam", "SGDNesterov"):  # AdaGrad's trend is too steep
        found = [round(wiggle(curves[optimizer]).autocorr(lag), 1) for lag in (1, 5, 6, 7, 12)]
        assert found == pytest.approx([-0.5, -0.5, 0.9, -0.6, 0.8], abs=0.11)


def test_the_two_halves_of_figure_3_are_told_apart_by_dropout():
    with_dropout, without = (published(name).pivot(index="x", columns="optimizer", values="y") for name in ("fig3_dropout", "fig3"))
    assert list(without) == list(with_dropout) == ["AdaGrad", "Adam", "SGDNesterov"]
    assert (len(without), len(with_dropout)) == (49, 49)
    assert (without.loc[1, "Adam"], with_dropout.loc[1, "Adam"]) == (pytest.approx(1.16206, abs=5e-6), pytest.approx(1.24096, abs=5e-6))


def test_distance_is_taken_at_plotted_vertices_within_our_epochs():
    paper = pd.DataFrame({"x": [0, 1, 2, 9], "y": [1.0, 2.0, 4.0, 1.0], "kind": ["recovered_clipped", "plotted", "plotted", "plotted"]})
    ours = pd.Series([9.0, 2.0 * np.e, 4.0], index=[0, 1, 2])
    np.testing.assert_allclose(log_ratios(ours, paper), [1.0, 0.0], atol=1e-15)
    assert rms(log_ratios(ours, paper)) == pytest.approx(np.sqrt(0.5))


def canonical(root, **labels) -> list[str]:
    """The file names of the canonical runs of figure 1 left."""
    return [run.csv.stem for run in canonical_runs(root, "fig1_left", **{"settings": "paper"} | labels)]


def test_canonical_runs_change_nothing_but_their_extent_and_the_machine(tmp_path):
    write_run(tmp_path, "Adam", [0.5], overrides=["threads=2", "seed=0"])  # excluded by run.py, and harmless here
    for optimizer, override in (("AdaGrad", "optimizer.lr=0.1"), ("SGDNesterov", "+model.l2=1"), ("RMSProp", "~decay")):
        write_run(tmp_path, optimizer, [0.1] * 3, overrides=[override])
    write_run(tmp_path, "AdaMax", [0.5], data="standin")
    write_run(tmp_path, "SFO", [0.5], experiment="fig2b")
    assert canonical(tmp_path) == ["Adam,threads=2,seed=0"]
    assert canonical(tmp_path, data="standin") == ["AdaMax"]
    assert read_runs(tmp_path, "fig1_right", "paper").empty


def test_an_optimizer_without_settings_may_be_given_its_own(tmp_path):
    write_run(tmp_path, "NAdam", [0.5], settings="defaults", overrides=["optimizer._target_=torch.optim.NAdam", "optimizer.lr=0.1"])
    write_run(tmp_path, "RMSProp", [0.5], settings="defaults", overrides=["model.l2=1"])
    assert [name.partition(",")[0] for name in canonical(tmp_path, settings="defaults")] == ["NAdam"]


def test_the_longest_run_counts_then_the_one_with_most_seeds_then_the_unsharded_and_the_newest(tmp_path):
    def added(costs, **facts) -> str:
        write_run(tmp_path, "Adam", costs, **facts)
        (name,) = canonical(tmp_path)
        return name

    assert added([3.0] * 3, seeds=(0, 1, 2), overrides=["epochs=3"]) == "Adam,epochs=3"
    assert added([7.0] * 4, seeds=(7,), overrides=["seed=7"]) == "Adam,seed=7"
    assert added([2.0] * 4, shard=1, overrides=["shard=1"]) == "Adam,shard=1"
    assert added([2.0] * 4) == "Adam"
    assert added([2.0] * 4, overrides=["seed=[0,1]"], started="2025-12-31") == "Adam"
    assert added([2.0] * 4, overrides=["epochs=4"], started="2026-01-02") == "Adam,epochs=4"
    assert added([9.0] * 9, overrides=["optimizer.lr=1"], started="2026-01-09") == "Adam,epochs=4"
    # Of an older configuration a run does not count, however long it is.
    assert added([5.0] * 2, identity={"schedule": "x"}, overrides=["epochs=2"], started="2026-01-03") == "Adam,epochs=2"
    assert read_runs(tmp_path, "fig1_left", "paper")["cost"].min() == 5
    assert configuration(tmp_path, "fig1_left", "Adam")["schedule"] == "x"
    assert configuration(tmp_path, "fig1_left", "SFO") == {}


def test_a_property_on_real_data_with_default_settings_and_most_seeds_comes_first(tmp_path):
    from experiments.records import Run

    for data, steps, seeds, overrides in (
        ("standin", 1, [0, 1], []),
        ("real", 2, [0, 1], []),
        ("real", 3, [0, 1], ["property.steps=3"]),
        ("real", 4, [0], ["seeds=[0]"]),
    ):
        run = Run.of({"property": {"steps": steps}, "seeds": seeds, "results": str(tmp_path)}, overrides, measured="norms", data=data)
        run.write(pd.DataFrame({"data": [data], "steps": [steps]}), {"sessions": [{"started": ""}]})
    assert read_measured(tmp_path, "norms")["steps"].tolist() == [2]
    assert read_measured(tmp_path, "regret") is None


def test_adams_tail_in_figure_2b_is_measured_as_plotted_and_rescaled(tmp_path):
    write_run(tmp_path, "Adam", rescaled("fig2b")["y"].to_numpy(), experiment="fig2b", seeds=(0,))
    (line,) = agreement(read_runs(tmp_path, "fig2b", "paper"), main_panel("fig2b"))
    assert [line["rms_log_ratio"], line["largest_log_ratio"], line["area"]] == pytest.approx([0, 0, 0], abs=1e-6)
    divisors = 2.3 * np.arange(1, 19)  # from x = 8 on
    assert line["rms_as_plotted"] == pytest.approx(np.sqrt(np.square(np.log(divisors)).sum() / 26), rel=1e-3)  # 5 decimals
    assert rescaled("fig2a").empty


def test_costs_of_figure_3_include_the_penalty_also_between_evaluations(tmp_path):
    penalties = [np.nan, 0.2, np.nan, 0.4]  # of epochs 1 to 4
    for experiment, expected in (("fig3", [1.2, 1.2, 1.3, 1.4]), ("fig1_left", [1.0] * 4)):
        rows = [{"member": 0, "seed": 0, "epoch": number, "cost": 1.0, "penalty": penalty} for number, penalty in enumerate(penalties, 1)]
        write_table(tmp_path, "Adam", rows, 4, experiment, "paper", seeds=(0,))
        table = read_runs(tmp_path, experiment, "paper")
        assert table["cost"].tolist() == pytest.approx(expected)
        assert table["without_penalty"].tolist() == [1.0] * 4


def test_agreement_is_that_of_the_mean_over_seeds(tmp_path):
    adam = published_costs("fig1_left", "Adam", 46)
    write_run(tmp_path, "Adam", adam * np.e, seeds=(0, 1, 2))  # the seeds are at e, 1.01 e and 1.02 e
    write_run(tmp_path, "AdaMax", adam)  # the paper has no such curve
    (line,) = agreement(read_runs(tmp_path, "fig1_left", "paper"), LEFT)
    assert (line["optimizer"], line["seeds"], line["points"]) == ("Adam", 3, 46)
    assert line["rms_log_ratio"] == pytest.approx(1 + np.log([1, 1.01, 1.02]).mean())
    assert line["rms_after_the_epoch"] == pytest.approx(1)
    with_penalty = np.mean([np.log(np.e * seed + 0.5 / adam) for seed in (1, 1.01, 1.02)], axis=0)
    assert line["rms_with_penalty"] == pytest.approx(rms(with_penalty))
    assert line["lowest_of_a_seed"] == pytest.approx(1)
    assert line["highest_of_a_seed"] == pytest.approx(1 + np.log(1.02))


def test_the_interval_over_seeds_is_that_of_drawing_them_anew_and_there_is_none_for_one_seed(tmp_path):
    write_run(tmp_path, "Adam", published_costs("fig1_left", "Adam", 46) / 1.01, seeds=(0, 1, 2))  # 1 % below, on the curve, 1 % above
    (line,) = agreement(read_runs(tmp_path, "fig1_left", "paper"), LEFT)
    # Means of three draws from -0.01, 0 and 0.01.
    assert 0 <= line["interval_low"] < line["interval_high"] <= 0.0101
    assert line["within_seeds"] == 1
    assert np.isnan(interval(np.zeros((1, 5)))).all()
    assert np.isnan(interval(np.array([[0.1], [np.nan]]))).all()


def test_the_area_between_curves_is_in_nats_times_epochs(tmp_path):
    write_run(tmp_path, "Adam", published_costs("fig1_left", "Adam", 46) + 0.1, seeds=(0,))
    (line,) = agreement(read_runs(tmp_path, "fig1_left", "paper"), LEFT)
    assert line["area"] == pytest.approx(4.5)  # 45 epochs from the first point to the last


def test_by_time_ours_is_read_where_the_paper_has_points(tmp_path):
    """An epoch of SFO takes 5 of Adam's here, as in the paper: then its points are those by epochs."""
    write_run(tmp_path, "Adam", np.full(26, 0.1), "fig2b", seeds=(0,), seconds=range(1, 27))
    write_run(tmp_path, "SFO", 2 * published_costs("fig2b", "SFO", 20), "fig2b", seeds=(0,), seconds=range(5, 105, 5))
    (by_time,) = (panel for panel in panels("fig2") if panel.by_time)
    _, line = agreement(read_runs(tmp_path, "fig2b", "paper"), by_time)
    assert (line["optimizer"], line["points"]) == ("SFO", 20)
    assert line["rms_log_ratio"] == pytest.approx(np.log(2), rel=1e-3)


def test_ranks_and_epochs_to_a_cost_are_those_of_both(tmp_path):
    write_run(tmp_path, "Adam", np.linspace(0.45, 0.35, 46), seeds=(0,))
    write_run(tmp_path, "SGDNesterov", np.linspace(0.5, 0.29, 46), seeds=(0,))  # crosses Adam's, as the paper's does not
    first, _, last = ranks(tmp_path).to_dict("records")
    assert (first["epoch"], first["ours"], first["kendall_tau"]) == (5, "Adam < SGDNesterov", 1)  # 10 % of 46
    assert (last["epoch"], last["ours"], last["paper"], last["kendall_tau"]) == (46, "SGDNesterov < Adam", "Adam < SGDNesterov", -1)
    epochs = epochs_to_cost(tmp_path).set_index(["series", "cost"])
    assert epochs.loc[("SGDNesterov", 0.3), "ours"] == 44  # 0.5 - 0.21 * 43 / 45 = 0.299
    assert epochs.loc[("Adam", 0.3), ["ours", "paper"]].tolist() == [pytest.approx(np.nan, nan_ok=True), 6]


def test_final_costs_are_those_of_the_last_epoch_and_a_sweep_has_none(tmp_path):
    write_sweep(tmp_path, lambda loss, row: loss, epochs=(10,))
    assert final_costs(tmp_path).empty
    write_run(tmp_path, "Adam", [9.0, 0.5], seeds=(0, 1, 2), columns={"test_cost": 0.25, "test_error": 0.125})
    (line,) = final_costs(tmp_path).to_dict("records")
    assert (line["experiment"], line["settings"], line["optimizer"], line["seeds"], line["epochs"]) == ("fig1_left", "paper", "Adam", 3, 2)
    assert line["cost"] == pytest.approx(0.505)
    assert line["cost_sd"] == pytest.approx(0.005)
    assert (line["test_cost"], line["test_error"], line["test_error_sd"]) == (0.25, 0.125, 0.0)


def test_a_diverged_seed_has_infinite_cost_in_every_table(tmp_path):
    costs = np.where(np.arange(46) == 20, np.nan, 0.5)  # and finite numbers after it do not count
    write_run(tmp_path, "Adam", costs, seeds=(1,), columns={"test_cost": 0.5, "test_error": 0.25})
    ours = read_runs(tmp_path, "fig1_left", "paper")
    assert np.isinf(ours.query("x >= 20")["cost"]).all()
    assert np.isfinite(ours.query("x < 20")["cost"]).all()
    both = pd.concat([ours.assign(member=1), ours.assign(member=0, seed=0, cost=0.5)])
    (line,) = agreement(both, LEFT)
    assert (line["seeds"], line["diverged"]) == (2, 1)
    assert line["rms_log_ratio"] == line["highest_of_a_seed"] == np.inf > line["lowest_of_a_seed"]
    assert np.isnan([line["interval_low"], line["interval_high"]]).all()
    (end,) = final_costs(tmp_path).to_dict("records")
    assert end["cost"] == end["train_cost"] == end["test_cost"] == np.inf
    assert np.isnan(end["cost_sd"])


def test_the_race_of_figure_2_is_in_epochs_and_in_seconds(tmp_path):
    """Adam takes 2 s for an epoch and SFO 10; SFO starts later and ends lower."""
    write_run(tmp_path, "Adam", [0.2, 0.05, 0.02], "fig2b", seeds=(0,), seconds=[2.0, 4.0, 6.0])
    write_run(tmp_path, "SFO", [2.0, 0.09, 0.0009], "fig2b", seeds=(0,), seconds=[10.0, 20.0, 30.0])
    adam, sfo = race(read_runs(tmp_path, "fig2b", "paper")).to_dict("records")
    assert (adam["seconds_of_an_epoch"], adam["epochs_of_adam"], sfo["seconds_of_an_epoch"], sfo["epochs_of_adam"]) == (2, 1, 10, 5)
    assert (adam["epochs_to_0.1"], adam["seconds_to_0.1"], sfo["epochs_to_0.1"], sfo["seconds_to_0.1"]) == (2, 4, 2, 20)
    assert np.isnan(adam["epochs_to_0.01"])
    assert (sfo["epochs_to_0.01"], sfo["seconds_to_0.001"]) == (3, 30)


def test_a_table_that_has_no_rows_any_more_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["tables", "--runs", str(tmp_path)])
    write_run(tmp_path, "Adam", [0.2, 0.05], "fig2b", seconds=[2.0, 4.0])
    tables.main()
    assert (tmp_path / "fig2b_race.csv").exists()
    monkeypatch.setitem(SESSION, "processor", "another")
    write_run(tmp_path, "SFO", [0.2, 0.05], "fig2b", seconds=[2.0, 4.0])
    tables.main()
    assert not (tmp_path / "fig2b_race.csv").exists()
    assert (tmp_path / "agreement.csv").exists()


def test_figure_4_measures_differences_in_nats_and_agreement_on_divergence(tmp_path):
    write_sweep(tmp_path, lambda loss, row: loss + (2.0 if row.bias_correction else 0.5))
    both = figure4.points(figure4.measured(figure4.sweeps(tmp_path, "paper")), figure4.published())
    assert len(both) == len(figure4.published())
    np.testing.assert_allclose(both.loc[both["bias_correction"], "difference"].dropna(), 2.0, atol=1e-5)
    np.testing.assert_allclose(both.loc[~both["bias_correction"], "difference"].dropna(), 0.5, atol=1e-5)
    assert both["difference"].notna().sum() == 101 - (both["kind"].str.startswith("plotted") & both["published_diverged"]).sum()
    assert (both["published_diverged"] == both["ours_diverged"]).all()
    assert "divergence agrees in 100.0%" in figure4.summary(both)
    assert ((both["ours_peak"] == 2e10) == ((both["alpha"] == 1e-2) & ~both["published_diverged"])).all()
    came_back = ((both["alpha"] == 1e-2) & ~both["published_diverged"]).mean()
    assert figure4.agreement(both)["explosion"] == pytest.approx(1 - came_back)
    found = figure4.agreement(both[both["bias_correction"]].assign(ours=both["published"] * np.e**0.1))
    assert found[["median", "divergence", "rms_log_ratio", "largest_log_ratio"]].tolist() == pytest.approx([2.0, 1.0, 0.1, 0.1])


def test_rmsprop_stands_in_figure_4_at_the_length_of_its_steps():
    rows = pd.DataFrame([{"optimizer": "RMSProp", "lr": 3e-4, "momentum": 0.9, "rho": 0.99, "seed": 0, "epoch": 10, "cost": 110.0}])
    (line,) = figure4.measured(rows).to_dict("records")
    assert (line["beta1"], line["beta2"], line["alpha"], line["bias_correction"]) == (0.9, 0.99, 3e-3, False)


@pytest.mark.parametrize("path", sorted(TUNING.glob("fig[123]*.csv")), ids=lambda path: path.stem)
def test_settings_of_the_tuning_tables_are_texts_or_missing(path):
    table = read_tuning(path)
    assert "lr" in settings_columns(table)
    assert {type(value) for column in settings_columns(table) for value in table[column].dropna()} == {str}
    assert table[["schedule", "shuffle", "examples", "l2"]].notna().all(axis=None)  # none is left to what is tracked today
