"""Sweeps: the files of conf/sweeps, what runs them, and what becomes of a job that fails."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import run as program
from configurations import resolved
from experiments.records import PROJECT, read
from experiments.training import threads
from hydra_plugins import adam_paper_sweeper
from made_up import SESSION, write_run, write_table
from scripts import sweep
from scripts.analysis.agreement import agreement
from scripts.analysis.published import main_panel, published
from scripts.analysis.runs import shown_costs

NAMES = [path.relative_to(sweep.SWEEPS).with_suffix("").as_posix() for path in sorted(sweep.SWEEPS.rglob("*.yaml"))]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "reproduce"])
def test_every_run_of_a_sweep_can_be_resolved(name):
    steps = [step for quick in (False, True) for step in sweep.read_sweep(name, quick, ["force=true"])]
    lines = {tuple(line) for step in steps if isinstance(step, sweep.Part) for line in step.lines}
    assert lines
    for line in lines:
        assert line[-1] == "force=true"
        if not line[0].startswith("property="):
            resolved(*line)
    for command in (step for step in steps if isinstance(step, str)):
        assert importlib.util.find_spec(command.split()[0]), command


def test_every_target_of_make_has_its_sweep():
    targets = re.findall(r"(?:reproduce|tune|gpu)-[a-z0-9-]+", (PROJECT / "Makefile").read_text())
    shown = subprocess.run(["make", "-n", "-o", "setup", "reproduce", *targets], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert set(NAMES) == set(re.findall(r"scripts\.sweep .* (\S+)\n", shown.stdout))


def test_a_sweep_that_does_not_exist_is_answered_with_those_that_do():
    with pytest.raises(ValueError, match="fig9 is not a sweep: choose one of best, fig1, "):
        next(sweep.read_sweep("fig9", False, []))


def test_what_failed_is_listed_at_the_end(monkeypatch, tmp_path, capsys):
    runs = "seed=0 epochs=1 optimizer=adam,adamax"
    (tmp_path / "small.yaml").write_text(f"one_by_one:\n- {runs}\nthen:\n- scripts.figures --runs {{results}} fig1\n")
    launched, called = [], []
    monkeypatch.setattr(sweep, "SWEEPS", tmp_path)
    monkeypatch.setattr(sweep.Part, "forecast", lambda part, seconds: setattr(part, "seconds", 90.0))
    monkeypatch.setattr(sweep, "launch", lambda jobs, *_: launched.extend(job.overrides for job in jobs))
    monkeypatch.setattr(sweep.subprocess, "run", lambda command, **_: called.append(command[1:]) or SimpleNamespace(returncode=1))
    monkeypatch.setattr(sys, "argv", ["sweep", "small", f"results={tmp_path}"])
    with pytest.raises(SystemExit) as ended:
        sweep.main()
    lines = [["seed=0", "epochs=1", f"optimizer={name}", f"results={tmp_path}"] for name in ("adam", "adamax")]
    assert launched == lines
    assert called == [("-m", "scripts.figures", "--runs", str(tmp_path), "fig1")]
    failed = [*(f"python run.py {' '.join(line)}" for line in lines), f"python -m scripts.figures --runs {tmp_path} fig1"]
    assert ended.value.code.splitlines()[1:] == failed
    assert "2 of 2 runs  about 2 minutes" in capsys.readouterr().out


def test_a_run_that_force_did_not_train_again_has_failed(monkeypatch, tmp_path):
    results = tmp_path / "my runs"
    (tmp_path / "small.yaml").write_text("one_by_one:\n- seed=0 epochs=1\nthen:\n- scripts.figures --runs {results} fig1\n")
    called = []
    monkeypatch.setattr(sweep, "SWEEPS", tmp_path)
    monkeypatch.setattr(sweep.Part, "forecast", lambda part, seconds: None)
    monkeypatch.setattr(sweep.subprocess, "run", lambda command, **_: called.append(command[1:]) or SimpleNamespace(returncode=0))
    monkeypatch.setattr(sys, "argv", ["sweep", "small", f"results={results}", "force=true"])

    def train(jobs, *_):
        for job in jobs:
            job.runs["real"].write(pd.DataFrame({"cost": [1.0]}), {"sessions": [SESSION]})

    monkeypatch.setattr(sweep, "launch", train)
    sweep.main()
    sweep.main()
    monkeypatch.setattr(sweep, "launch", lambda *_: None)
    with pytest.raises(SystemExit, match="these commands failed.*\n.*force=true"):
        sweep.main()
    assert called == [("-m", "scripts.figures", "--runs", str(results), "fig1")] * 3  # one argument, spaces included


def test_overrides_of_keys_that_properties_lack_are_for_training_runs():
    overrides = ["device=cpu", "data.source=standin", "threads=1"]
    (part,) = (step for step in sweep.read_sweep("properties", False, overrides) if isinstance(step, sweep.Part))
    assert {tuple(line[1:]) for line in part.lines} == {("threads=1",)}
    part, *_ = sweep.read_sweep("fig1", False, overrides)
    assert all(line[-3:] == overrides for line in part.lines)


def test_runs_that_train_at_once_are_forecast_with_their_share_of_the_threads(monkeypatch, tmp_path, capsys, images):
    two = "\n- seed=0 epochs=80 optimizer=adam,adamax\n"
    shards = "\n- seed=[0,1,2,3] shard=1 epochs=80 optimizer=adam\n"
    (tmp_path / "small.yaml").write_text(f"parallel:{two.rstrip()}{shards}two_at_a_time:{two}one_by_one:{two}")
    for module in (sweep, threads):
        monkeypatch.setattr(module, "AVAILABLE", 4)
    monkeypatch.setattr(sweep, "load", lambda **_: images)
    monkeypatch.setattr(sweep, "seconds_per_epoch", lambda _: 6.0 / torch.get_num_threads())
    monkeypatch.setattr(sys, "argv", ["sweep", "--forecast", str(tmp_path / "small"), f"results={tmp_path}"])
    before = torch.get_num_threads()
    sweep.main()
    torch.set_num_threads(before)
    # An epoch takes 6 s with one thread. Two runs on four cores: 80 epochs of 6 s at once, of 3 s at once, of 1.5 s one after the other; a
    # run of four shards in parallel: 6 s.
    assert re.findall("about (.+? minutes)", capsys.readouterr().out) == [f"{minutes} minutes" for minutes in (8, 8, 4, 4, 24)]


@pytest.mark.parametrize(
    ("finished", "source", "there", "trains"),
    [
        ("standin", "auto", "real", True),  # the real data have arrived since
        ("standin", "auto", "standin", False),
        ("standin", "standin", "real", False),
        ("real", "auto", "standin", False),
        ("real", "real", "real", False),
        ("", "auto", "real", True),
    ],
)
@pytest.mark.parametrize("force", ["true", "false"])
def test_a_sweep_trains_what_is_missing_on_the_data_that_are_there(monkeypatch, tmp_path, finished, source, there, trains, force):
    monkeypatch.setattr(sweep.Run, "is_complete", lambda run: run.data == finished)
    monkeypatch.setattr(sweep, "_load", lambda *_: SimpleNamespace(source=there))
    with sweep.initialize_config_dir(version_base="1.3", config_dir=str(PROJECT / "conf")):
        part = sweep.Part("small", "", [["seed=0", f"data.source={source}", f"force={force}", f"results={tmp_path}"]], 1)
        assert bool(part.missing()) == (trains or force == "true")


@pytest.mark.parametrize("launcher", [["hydra/launcher=basic"], ["hydra.launcher.n_jobs=1"]], ids=["basic", "joblib"])
def test_jobs_go_on_after_one_that_fails(monkeypatch, tmp_path, capsys, images, launcher):
    monkeypatch.setattr(program, "load", lambda **_: images)
    monkeypatch.setattr(
        sys, "argv", ["run.py", "-m", "optimizer.lr=1e-2,-1,1e-3", "seed=0", "epochs=1", "device=cpu", f"results={tmp_path}", *launcher]
    )
    with pytest.raises(SystemExit, match="error: 1 of 3 jobs failed"):
        program.cli()
    assert "optimizer.lr=-1 is invalid: expected a finite number from 0 up" in capsys.readouterr().err
    assert len(list(tmp_path.rglob("*.csv"))) == 2


def test_a_sweep_ends_with_a_table_of_its_runs(monkeypatch, tmp_path, capsys, images):
    monkeypatch.setattr(program, "load", lambda **_: images)
    line = ["optimizer=adam,nadam", "seed=[0,1]", "epochs=2", "device=cpu", f"results={tmp_path}", "hydra/launcher=basic"]
    monkeypatch.setattr(sys, "argv", ["run.py", "-m", *line])
    program.cli()
    *_, head, adam, nadam, hint = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "final", "cost", "distance", "file"]
    (name, cost, distance, file), (_, _, none, _) = adam.split(), nadam.split()
    assert (name, none) == ("optimizer=adam", "-")  # the paper has no curve of NAdam
    table = shown_costs(read(Path(file)))
    assert cost == f"{table.loc[table['epoch'] == 2, 'cost'].mean():.4g}"
    assert distance == f"{agreement(table, main_panel('fig1_left'))[0]['rms_log_ratio']:.4f}"
    assert hint == f"make plot RUN={tmp_path} draws them over the paper's curves"


def test_the_table_of_a_sweep_shows_the_best_setting_of_a_population_and_no_distance_where_there_is_none(tmp_path):
    rows = [{"member": member, "seed": 0, "lr": member, "epoch": 1, "cost": cost} for member, cost in enumerate([0.5, 0.25, np.nan])]
    grid = write_table(tmp_path, "Adam", rows, 1, seeds=(0,), hyperparameters=["lr"])
    standin = write_run(tmp_path, "Adam", [0.5], data="standin")
    other = write_run(tmp_path, "Adam", [np.nan], "fig4")
    shown = adam_paper_sweeper.table({(str(number),): read(path) for number, path in enumerate((grid, standin, other))})
    first = published("fig1_left").query("optimizer == 'Adam' and x == 0")["y"].item()
    lines = [line.split()[:3] for line in shown.splitlines()[1:]]
    assert lines == [["0", "0.25", f"{abs(np.log(0.25 / first)):.4f}"], ["1", "0.5025", "-"], ["2", "inf", "-"]]


def test_jobs_that_train_a_shard_each_write_the_run_of_one_process(monkeypatch, tmp_path, capsys, images):
    monkeypatch.setattr(program, "load", lambda **_: images)

    def call(*overrides: str) -> None:
        monkeypatch.setattr(sys, "argv", ["run.py", "seed=[0,1]", "shard=1", "epochs=2", "device=cpu", "products=torch", *overrides])
        program.cli()

    call(f"results={tmp_path}/one")
    call(f"results={tmp_path}/jobs", "part=1")
    assert "part 1 is trained, 1 of 2 are not" in capsys.readouterr().out
    assert not list(tmp_path.glob("jobs/**/*.csv"))
    call(f"results={tmp_path}/jobs", "part=0")
    (one,), (other,) = tmp_path.glob("one/**/*.csv"), tmp_path.glob("jobs/**/*.csv")
    assert other.read_bytes() == one.read_bytes()
    assert sorted(path.suffix for path in other.parent.iterdir()) == [".csv", ".json"]
    with pytest.raises(SystemExit, match="part=2 is invalid: expected null or a whole number below 2"):
        call(f"results={tmp_path}/none", "part=2")


@pytest.mark.parametrize(("mode", "at_once"), [("parallel", 4), ("two_at_a_time", 2), ("one_by_one", 1)])
def test_several_jobs_at_once_train_a_shard_each(monkeypatch, tmp_path, mode, at_once):
    (tmp_path / "small.yaml").write_text(f"{mode}:\n- seed=[0,1] shard=1 optimizer=adam\n")
    launched = []
    monkeypatch.setattr(sweep, "AVAILABLE", 4)
    monkeypatch.setattr(sweep.Part, "forecast", lambda *_: None)
    monkeypatch.setattr(sweep, "launch", lambda jobs, by_shard, arguments, _: launched.append((by_shard, arguments)))
    monkeypatch.setattr(sys, "argv", ["sweep", str(tmp_path / "small"), f"results={tmp_path}"])
    with pytest.raises(SystemExit):  # nothing has been trained
        sweep.main()
    assert launched == [(at_once > 1, [f"hydra.launcher.n_jobs={at_once}"])]


def test_a_cluster_gets_the_shards_of_what_is_missing_at_once(monkeypatch, tmp_path):
    (tmp_path / "small.yaml").write_text("parallel:\n- experiment=fig2b seed=[0,1] optimizer=adam\none_by_one:\n- property=norms\n")
    launched = []
    monkeypatch.setattr(sweep.Part, "forecast", lambda *_: None)
    monkeypatch.setattr(sweep, "launch", lambda jobs, by_shard, arguments, _: launched.append((jobs, by_shard, arguments)))
    settings = ["hydra/launcher=slurm", "+hydra.launcher.account=me"]
    monkeypatch.setattr(sys, "argv", ["sweep", str(tmp_path / "small"), f"results={tmp_path}", *settings])
    with pytest.raises(SystemExit):
        sweep.main()
    (jobs, by_shard, arguments), (late, *_) = launched
    assert (by_shard, arguments, late) == (True, settings, [])
    assert [line[-1] for job in jobs for line in job.shards()] == ["part=0", "part=1", f"results={tmp_path}"]
