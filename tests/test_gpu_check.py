"""`make gpu-check` without a GPU: what becomes of parts that fail or hang, and the runs that it trains."""

import sys
from importlib.util import find_spec
from itertools import starmap

import pytest

import run as program
from configurations import resolved
from experiments.records import catalogue
from hydra_plugins.adam_paper_sweeper import expand
from scripts import gpu_check
from scripts.gpu_check import Part


def check(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", *arguments])
    gpu_check.main()


def test_a_part_that_fails_or_hangs_does_not_stop_the_next(monkeypatch, tmp_path, capsys):
    steps = [
        Part("fails", 0, ["-c", "raise SystemExit(3)"]),
        Part("hangs", 0.05, ["-c", "print('begun'); import time; time.sleep(60)"]),
        Part("works", 0.5, ["-c", "print('first')"]),
        Part("works", 0.5, ["-c", "print('second')"]),
    ]
    monkeypatch.setattr(gpu_check, "parts", lambda *_: steps)
    with pytest.raises(SystemExit, match="1"):
        check(monkeypatch, f"--out={tmp_path}")
    words = [line.partition(" after ")[0] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert words == ["fails: failed with status 3", "hangs: out of time", "works: done", "works: done"]
    assert "begun" in (tmp_path / "hangs.log").read_text()
    assert [line for line in (tmp_path / "works.log").read_text().splitlines() if line in ("first", "second")] == ["first", "second"]
    with pytest.raises(SystemExit, match="0"):
        check(monkeypatch, f"--out={tmp_path}", "works")


def test_twelve_minutes_are_enough_and_parts_have_names(monkeypatch, tmp_path, capsys):
    steps = gpu_check.parts("cuda", tmp_path, [])
    assert sum(part.minutes for part in steps) <= 12
    assert all(find_spec(part.arguments[1]) for part in steps if part.arguments[0] == "-m")
    with pytest.raises(SystemExit, match="2"):
        check(monkeypatch, f"--out={tmp_path}", "test")
    assert "test is not a part: choose from machine, tests, optimizers, epochs, figure3" in capsys.readouterr().err


def trainings(out, *overrides):
    return [part.arguments for part in gpu_check.parts("cpu", out, [*overrides]) if part.arguments[0] == "run.py"]


def test_its_runs_are_figure_3_in_three_precisions(tmp_path):
    jobs = [expand(arguments[3:]) for arguments in trainings(tmp_path, "epochs=1")]
    found = [[(c["experiment"], c["optimizer"]["_target_"], c["precision"], c["epochs"]) for c in starmap(resolved, job)] for job in jobs]
    names = ("Adam", "AdaGrad", "SGDNesterov")
    series = [(experiment, f"optim.{name}") for experiment in ("fig3", "fig3_dropout") for name in names]
    assert found == [[(*one, precision or "bfloat16", 1) for one in series] for precision in ("", "tf32", "float32")]


def test_its_runs_train(monkeypatch, tmp_path, images):
    monkeypatch.setattr(program, "load", lambda **_: images)
    monkeypatch.setattr(sys, "argv", trainings(tmp_path, "experiment=fig3", "optimizer=adam", "epochs=1", "batch_size=300")[1])
    program.cli()
    assert [(run.optimizer, run.overrides) for run in catalogue(tmp_path)] == [("Adam", ("batch_size=300", "epochs=1", "precision=tf32"))]
