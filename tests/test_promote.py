"""Runs of one's own: compared with the paper, tracked, and tracked runs verified."""

import numpy as np
import pandas as pd
import pytest

from experiments.records import RecordError, read
from made_up import write_run, write_sweep
from scripts import compare, promote, verify
from scripts.analysis.published import published
from scripts.claims.sections import choice


def adams(points: int) -> np.ndarray:
    return published("fig1_left").query("optimizer == 'Adam'").sort_values("x")["y"].to_numpy()[:points]


def test_any_run_on_real_data_is_compared_with_the_curves_of_its_panel(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "REFERENCE", tmp_path / "tracked")
    write_run(tmp_path / "tracked", "Adam", adams(10) * np.e, seeds=(0,))
    runs = tmp_path / "runs"
    own = write_run(runs, "Adam", adams(5) * np.e**2, seeds=(0,), overrides=["optimizer.lr=0.1"])
    distance = "rms log ratio to the paper's curve 2.0000, epochs 1 to 5; the tracked run of settings=paper: 1.0000"
    assert compare.compare(read(own)) == f"{own}: fig1_left Adam, settings=paper: {distance}"
    nadam = compare.compare(read(write_run(runs, "NAdam", [1.0, adams(2)[1] * 2], settings="defaults", seeds=(0,))))
    assert nadam.split("settings=defaults: ")[1].startswith(f"cost in epoch 2: {adams(2)[1] * 2:.4g}; at the last published epoch, ")
    assert "2 times Adam's" in nadam
    assert "rms log ratio to the paper's curve inf" in compare.compare(read(write_run(runs, "Adam", [*adams(5), np.nan], seeds=(0,))))
    write_sweep(tmp_path / "sweep", lambda loss, row: loss, epochs=(10,))
    assert "63 points" in compare.compare(read(tmp_path / "sweep/fig4/paper/Adam.csv"))
    for refused, words in (
        (write_run(runs, "Adam", adams(2), data="standin"), "cannot be compared: it was trained on stand-in data"),
        (write_run(runs, "Adam", adams(2), "fig1_right_no_dropout"), "the paper shows no curve of fig1_right_no_dropout"),
    ):
        with pytest.raises(RecordError, match=words):
            compare.compare(read(refused))


def test_compare_takes_files_folders_at_any_depth_or_all_runs(tmp_path, monkeypatch, capsys):
    def compared(*paths) -> list[str]:
        monkeypatch.setattr("sys.argv", ["compare", *map(str, paths)])
        compare.main()
        return [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]

    first = write_run(tmp_path / "a folder", "Adam", adams(3))
    second = write_run(tmp_path / "a folder", "AdaGrad", adams(3), overrides=["passes=3"])
    standin = write_run(tmp_path / "a folder", "Adam", adams(3), data="standin")
    assert compared(first) == compared(first.with_suffix(".json")) == [str(first)]
    assert compared(tmp_path) == compared(first.parent) == [str(second), str(first)]
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    for path, words in (
        (standin, "stand-in data"),
        (standin.parent, "no run there can be compared"),
        (tmp_path / "table.csv", "has no finished run: give a CSV that run.py wrote"),
        (tmp_path / "nothing", "has no finished run"),
    ):
        with pytest.raises(SystemExit, match=f"error: .*{words}"):
            compared(path)


@pytest.fixture
def promoted(tmp_path, monkeypatch):
    """Tracks runs in a folder of its own; returns that folder's CSV files."""
    monkeypatch.setattr(promote, "REFERENCE", tmp_path / "reference")

    def call(*paths) -> list[str]:
        monkeypatch.setattr("sys.argv", ["promote", *map(str, paths)])
        promote.main()
        return sorted(str(path.relative_to(promote.REFERENCE)) for path in promote.REFERENCE.rglob("*.csv"))

    return call


def test_promotion_copies_runs_with_their_records_and_replaces_those_of_another_extent(tmp_path, promoted):
    path = write_run(tmp_path / "runs", "Adam", [0.5], overrides=["passes=1"])
    shorter = write_run(promote.REFERENCE, "Adam", [0.5], overrides=["seed=0"])
    assert promoted(path.parent) == ["fig1_left/paper/Adam.csv"]
    for suffix in (".csv", ".json"):
        copied = promote.REFERENCE / "fig1_left/paper" / f"Adam{suffix}"
        assert copied.read_bytes() == path.with_suffix(suffix).read_bytes()
        assert not shorter.with_suffix(suffix).exists()
    assert read(promote.REFERENCE / "fig1_left/paper/Adam.csv").extent["passes"] == 1


def test_promotion_refuses_standins_overrides_and_half_runs_and_then_copies_nothing(tmp_path, promoted, capsys):
    runs = tmp_path / "runs"
    good, dirty = write_run(runs, "Adam", [0.5]), write_run(runs, "RMSProp", [0.5], dirty=True)
    half = write_run(runs, "AdaGrad", [0.5])
    half.with_suffix(".json").unlink()
    for bad, words in (
        (write_run(runs, "AdaMax", [0.5], data="standin"), "nothing was tracked: .*stand-in"),
        (write_run(runs, "Adam", [0.5], overrides=["optimizer.lr=1"]), "overrides"),
        (half, "has no finished run"),
        (write_run(runs, "Adam", [0.5], settings="quick"), "none of paper, best, all_images"),
        (write_run(runs, "NAdam", [0.5], settings="defaults"), "settings=defaults is none of"),
        (dirty, "uncommitted changes"),
    ):
        with pytest.raises(SystemExit, match=words):
            promoted(good, bad)
    assert not promote.REFERENCE.exists()
    (runs / "agreement.csv").write_text("x\n1\n")
    assert promoted(runs) == ["fig1_left/paper/Adam.csv"]  # from a folder, what can be tracked
    told = capsys.readouterr().err.splitlines()
    assert f"not tracked: {dirty}: the code had uncommitted changes: commit them and run again with force=true, so that others can" in told
    assert any("Adam,optimizer.lr=1.csv: it overrides" in line for line in told)
    for optimizer in ("Adam", "AdaGrad"):
        write_run(tmp_path / "dirty", optimizer, [0.5], dirty=True)
    for folder, why in ((runs / "standin", "it was trained on stand-in data"), (tmp_path / "dirty", "uncommitted changes")):
        with pytest.raises(SystemExit, match=f"nothing was tracked: .*{why}"):
            promoted(folder)


def test_verification_compares_costs_of_the_same_seed_and_pass():
    tracked = pd.DataFrame({"seed": [0, 0, 1], "pass": [1, 2, 1], "cost": [1.0, 2.0, np.inf], "lr": [1, 1, 2]})
    part = verify.Part("fig1_left", "adam", 2, 1e-3)
    assert verify.compare(tracked[["seed", "pass", "cost"]], tracked, part) == (3, 0.0)
    computed = pd.DataFrame({"seed": [0, 0], "pass": [1, 2], "cost": [1.01, 2.0]})
    assert verify.compare(computed, tracked, part) == (2, pytest.approx(0.01))
    assert verify.compare(computed.assign(cost=[np.nan, 2.0]), tracked, part) == (2, np.inf)
    assert verify.compare(computed, tracked, verify.Part("fig4", "adam", 2, 1e-3, member={"lr": 2})) == (0, 0.0)


@pytest.mark.parametrize("part", verify.PARTS, ids=str)
def test_what_is_verified_is_tracked(part):
    (optimizer,) = (name for name in ("Adam", "AdaMax", "SFO", "SGDNesterov") if choice(name) == part.optimizer)
    tracked = verify.tracked_run(optimizer, part).table()
    of_member = tracked[tracked["pass"] <= part.passes]
    for column, value in part.member.items():
        of_member = of_member[of_member[column] == value]
    costs, difference = verify.compare(of_member[["seed", "pass", "cost"]], tracked, part)
    assert costs == len(of_member) == part.passes * of_member["seed"].nunique()
    assert difference == 0
