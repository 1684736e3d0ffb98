"""Runs of one's own are tracked, and tracked runs verified."""

import numpy as np
import pandas as pd
import pytest

from experiments.records import read
from made_up import write_run
from scripts import promote, verify
from scripts.analysis.runs import REFERENCE, canonical_run, short


@pytest.fixture
def promoted(tmp_path, monkeypatch):
    """Tracks runs in a folder of its own; returns that folder's CSV files."""
    monkeypatch.setattr(promote, "REFERENCE", tmp_path / "reference")
    monkeypatch.setattr(promote, "is_in_history", lambda commit: commit == "c")  # that of made-up runs

    def call(*paths) -> list[str]:
        monkeypatch.setattr("sys.argv", ["promote", *map(str, paths)])
        promote.main()
        return sorted(str(path.relative_to(promote.REFERENCE)) for path in promote.REFERENCE.rglob("*.csv"))

    return call


def test_promotion_copies_runs_with_their_records_and_replaces_those_of_another_extent(tmp_path, promoted):
    path = write_run(tmp_path / "runs", "Adam", [0.5], overrides=["epochs=1"])
    shorter = write_run(promote.REFERENCE, "Adam", [0.5], overrides=["seed=0"])
    assert promoted(path.parent) == ["fig1_left/paper/Adam.csv"]
    for suffix in (".csv", ".json"):
        copied = promote.REFERENCE / "fig1_left/paper" / f"Adam{suffix}"
        assert copied.read_bytes() == path.with_suffix(suffix).read_bytes()
        assert not shorter.with_suffix(suffix).exists()
    assert read(promote.REFERENCE / "fig1_left/paper/Adam.csv").extent["epochs"] == 1


def test_promotion_refuses_standins_overrides_and_half_runs_and_then_copies_nothing(tmp_path, promoted, capsys):
    runs = tmp_path / "runs"
    good, dirty = write_run(runs, "Adam", [0.5]), write_run(runs, "RMSProp", [0.5], dirty=True)
    half = write_run(runs, "AdaGrad", [0.5])
    half.with_suffix(".json").unlink()
    for bad, words in (
        (write_run(runs, "AdaMax", [0.5], data="standin"), "nothing was tracked: .*stand-in"),
        (write_run(runs, "Adam", [0.5], overrides=["optimizer.lr=1"]), "overrides"),
        (half, "has no finished run"),
        (write_run(runs, "Adam", [0.5], settings="quick"), "one of paper, best, all_images"),
        (write_run(runs, "NAdam", [0.5], settings="defaults"), "settings=defaults cannot be tracked: expected one of"),
        (dirty, "uncommitted changes"),
        (write_run(runs, "SGDNesterov", [0.5], commit="of a lost branch"), "its commit of a lost br is not in the history of this branch"),
        (write_run(runs, "AdaDelta", [0.5], dirty=None), "its commit is unknown, because git did not answer"),
    ):
        with pytest.raises(SystemExit, match=words):
            promoted(good, bad)
    assert not promote.REFERENCE.exists()
    (runs / "agreement.csv").write_text("x\n1\n")
    assert promoted(runs) == ["fig1_left/paper/Adam.csv"]  # from a folder, what can be tracked
    told = capsys.readouterr().err.splitlines()
    assert f"not tracked: {dirty}: the code had uncommitted changes: commit them and rerun with force=true" in told
    assert any("Adam,optimizer.lr=1.csv: it overrides" in line for line in told)
    for optimizer in ("Adam", "AdaGrad"):
        write_run(tmp_path / "dirty", optimizer, [0.5], dirty=True)
    for folder, why in ((runs / "standin", "it was trained on stand-in data"), (tmp_path / "dirty", "uncommitted changes")):
        with pytest.raises(SystemExit, match=f"nothing was tracked: .*{why}"):
            promoted(folder)


def test_verification_compares_costs_of_the_same_seed_and_epoch():
    tracked = pd.DataFrame({"seed": [0, 0, 1], "epoch": [1, 2, 1], "cost": [1.0, 2.0, np.inf], "lr": [1, 1, 2]})
    part = verify.Part("fig1_left", "Adam", 2, 1e-3)
    assert verify.compare(tracked[["seed", "epoch", "cost"]], tracked, part) == (3, 0.0)
    computed = pd.DataFrame({"seed": [0, 0], "epoch": [1, 2], "cost": [1.01, 2.0]})
    assert verify.compare(computed, tracked, part) == (2, pytest.approx(0.01))
    assert verify.compare(computed.assign(cost=[np.nan, 2.0]), tracked, part) == (2, np.inf)
    assert verify.compare(computed, tracked, verify.Part("fig4", "Adam", 2, 1e-3, {"optimizer.lr": 2})) == (0, 0.0)


@pytest.mark.parametrize("part", verify.PARTS, ids=str)
def test_what_is_verified_is_tracked(part):
    tracked = canonical_run(REFERENCE, part.experiment, part.optimizer).table()
    of_member = tracked[tracked["epoch"] <= part.epochs]
    for key, value in part.member.items():
        of_member = of_member[of_member[short(key)] == value]
    costs, difference = verify.compare(of_member[["seed", "epoch", "cost"]], tracked, part)
    assert costs == len(of_member) == part.epochs * of_member["seed"].nunique()
    assert difference == 0
