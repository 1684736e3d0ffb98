"""Tuning tables: what members of grids and candidates come to, and what they tell about settings that the paper leaves out."""

import numpy as np
import pandas as pd
import pytest

from made_up import OPTIMIZER, write_run, write_sweep
from scripts.analysis.published import published
from scripts.analysis.tuning import read_tuning, settings_columns
from scripts.tuning import __main__ as program
from scripts.tuning import unknowns


@pytest.fixture
def summarised(tmp_path, monkeypatch):
    """Runs the program on one experiment, in folders of its own; returns the table."""
    monkeypatch.setattr(program, "TUNING", tmp_path / "tuning")

    def call(experiment: str, *options: str) -> pd.DataFrame:
        monkeypatch.setattr("sys.argv", ["tuning", experiment, "--runs", str(tmp_path / "runs"), *options])
        program.main()
        return read_tuning(tmp_path / "tuning" / f"{experiment}.csv")

    return call


def test_a_line_has_all_settings_of_a_member_whatever_is_tracked(tmp_path, summarised, capsys):
    adam = published("fig1_left").query("optimizer == 'Adam'").sort_values("x")["y"].to_numpy()[:46]
    shared = {"model": {"l2": 1e-5, "initial_std": {"stage1": 0.1, "stage2": 0.1}}, "decay": 1.0, "precision": "float32"}
    grid = shared | {"optimizer": OPTIMIZER | {"lr": [0.1, 0.2]}, "precision": "bfloat16"}
    write_run(tmp_path / "runs", "Adam", adam, settings="grid", identity=grid, columns={"lr": 0.1}, hyperparameters=["lr"])
    candidate = shared | {"model": {"l2": 0.0, "initial_std": {"stage1": 0.5, "stage2": 0.1}}, "decay": 0.5}  # which no schedule uses
    write_run(tmp_path / "runs", "Adam", [0.3], settings="search", seeds=(0,), identity=candidate)
    write_run(tmp_path / "runs", "Adam", [0.3], settings="search", seeds=(0,), identity=candidate, data="standin")  # does not count
    table = summarised("fig1_left")
    assert settings_columns(table) == ["lr", "schedule", "l2", "initial_std.stage1", "initial_std.stage2"]
    settings = [["0.1", "constant", "1e-05", "0.1", "0.1"]] * 2 + [["0.001", "constant", "0.0", "0.5", "0.1"]]
    assert table[["settings", "seed", "epochs"]].to_numpy().tolist() == [["grid", 0, 46], ["grid", 1, 46], ["search", 0, 1]]
    assert table[settings_columns(table)].fillna("").to_numpy().tolist() == settings
    assert table["rms_log_ratio"].tolist()[:2] == pytest.approx([0, np.log(1.01)], abs=1e-6)
    assert table["objective"].tolist() == pytest.approx([adam[45] + 0.5, adam[45] * 1.01 + 0.5, 0.8], rel=1e-5)
    assert "Adam: lowest objective" in capsys.readouterr().out


def test_two_runs_of_the_same_candidate_are_refused(tmp_path, summarised):
    candidate = {"settings": "search", "seeds": (0,), "identity": {"model": {"l2": 1e-4}}}
    write_run(tmp_path / "runs", "Adam", [0.5], **candidate)
    assert summarised("fig1_left")["cost"].tolist() == [0.5]
    write_run(tmp_path / "runs", "Adam", [0.4], **candidate, overrides=["model.l2=1e-4"])
    with pytest.raises(SystemExit, match=r"two runs of fig1_left are of the same candidate, .*'l2': '0.0001'.*: remove one"):
        summarised("fig1_left")
    with pytest.raises(SystemExit, match="has no finished grid of fig1_right on real data: run make tune-fig1"):
        summarised("fig1_right")


def test_a_member_that_diverged_has_infinite_cost_and_distance(tmp_path, summarised):
    write_run(tmp_path / "runs", "Adam", [0.5, np.nan, 0.4], settings="grid", seeds=(0,))
    assert summarised("fig1_left")[["rms_log_ratio", "cost"]].to_numpy().tolist() == [[np.inf, np.inf]]


def test_candidates_of_figure_4_are_summed_up(tmp_path, summarised, capsys):
    write_sweep(tmp_path / "runs", lambda loss, row: loss + 1.5, epochs=(10,), settings="search", overrides=["shuffle=false"],
                identity={"shuffle": False})  # fmt: skip
    table = summarised("fig4")
    assert table[["setting", "value"]].drop_duplicates().to_numpy().tolist() == [["shuffle", "False"]]
    table = table.astype({"difference": float, "published": float})
    np.testing.assert_allclose(table["difference"][table["published"] < 399], 1.5, atol=1e-3)
    assert np.isinf(table["difference"][table["published"] > 399]).all()  # ours diverged
    assert "1.50 inf inf" in " ".join(capsys.readouterr().out.split())


def test_an_unknown_is_known_by_its_closest_values_all_else_being_equal():
    members = [  # of the start, two keys that were varied together, the step sizes 1 and 2 are shared; with momentum 0.9 all is closer
        ("1", "0", "a", "x", 0.3), ("2", "0", "a", "x", 0.2), ("3", "0", "a", "x", 0.01), ("1", "0", "b", "y", 0.5),
        ("2", "0", "b", "y", 0.4), ("1", "0.9", "a", "x", 0.1), ("2", "0.9", "a", "x", 0.15),
    ]  # fmt: skip
    given = pd.DataFrame([row[:4] for row in members], columns=["lr", "momentum", "start", "std"]).assign(only="one")
    distances = pd.Series([row[4] for row in members])
    used = {"lr": "1", "momentum": "0", "start": "a", "std": "x", "only": "one"}
    lr, momentum, start = unknowns.profile(given, distances, used)
    assert lr["candidates"] == "3: 0.01; 2: 0.2; 1: 0.3"  # with the momentum that is used
    assert momentum["candidates"] == "0.9: 0.1; 0: 0.2"  # 3 was tried with one of them alone
    assert (start["setting"], start["candidates"], start["used"]) == ("start, std", "a, x: 0.2; b, y: 0.4", "a, x")
    lr, *_ = unknowns.profile(given, distances, used | {"momentum": "0.99", "only": "another"})
    assert (lr["with"], lr["candidates"]) == ("momentum=0 only=one", "3: 0.01; 2: 0.2; 1: 0.3")  # where most were tried


def test_settings_are_the_same_however_they_are_written():
    given = {"schedule": "exponential_epoch", "decay": "0.90", "l2": "1e-4", "examples": "None"}
    assert unknowns.normal(given) == {"schedule": "exponential_epoch 0.9", "l2": "0.0001", "examples": "all"}
    assert unknowns.normal({"schedule": "constant", "decay": "0.9"}) == {"schedule": "constant"}


def test_readings_of_the_cost_are_compared_where_they_were_taken():
    shared = {"panel": "fig1_left", "experiment": "fig1_left", "epochs": 46, "rms_evaluated": 0.2, "rms_with_penalty": 0.2,
              "rms_after_the_epoch": 0.1}  # fmt: skip
    lines = [{**shared, "optimizer": name, "evaluated_points": points} for name, points in (("Adam", 46), ("AdaGrad", 1))]
    (line,) = unknowns.when_costs_are_taken(pd.DataFrame(lines))
    assert (line["optimizer"], line["closest"], line["next"]) == ("Adam", "after the epoch, noise off", "during the epoch")
