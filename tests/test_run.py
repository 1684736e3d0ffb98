"""run.py from the command line to the files: what it writes, what it does not repeat, how it answers mistakes."""

import errno
import functools
import hashlib
import inspect
import itertools
import json
import math
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize
from omegaconf import OmegaConf

import optim
import run as program
from configurations import composed, resolved
from data.files import part_path
from data.rows import DenseRows
from data.types import Dataset, Split
from experiments import process, progress, provenance
from experiments.config import Population, check_memory, optimizer_class, optimizer_name, resolve
from experiments.models.multilayer_network import MultilayerNetwork
from experiments.progress import announce, progress_bar
from experiments.provenance import merge_sessions, session
from experiments.records import COLUMNS, PROJECT, catalogue, partition, read
from experiments.training import checkpoints, members
from scripts.analysis.runs import REFERENCE

OPTIMIZERS = sorted(path.stem for path in (PROJECT / "conf/optimizer").glob("*.yaml"))
OURS = [name for name in OPTIMIZERS if "torch.optim" not in (PROJECT / f"conf/optimizer/{name}.yaml").read_text()]
EXPERIMENTS = sorted(path.stem for path in (PROJECT / "conf/experiment").glob("*.yaml"))


def test_a_run_leaves_a_tidy_csv_and_where_it_came_from(command, capsys):
    (path,) = command("seed=[0,5]")
    table, facts = pd.read_csv(path), json.loads(path.with_suffix(".json").read_text())
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 2 * 2  # epochs, members
    assert table.groupby("member")["seed"].first().tolist() == [0, 5]
    assert set(table["optimizer"]) == {"Adam"}
    assert set(table["data"]) == {"real"}
    assert facts["identity"]["optimizer"]["lr"] == 9e-4
    assert facts["extent"] == {"epochs": 2, "seed": [0, 5], "shard": None}
    assert facts["overrides"] == ["epochs=2", "seed=[0,5]"]
    assert not {"results", "force", "data.root"} & set(facts["machine"])
    assert facts["csv"] == {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "rows": 4}
    assert facts["diverged_members"] == facts["hyperparameters"] == []
    assert 0 < facts["seconds_after_epoch"][0] < facts["seconds_after_epoch"][1] == facts["training_seconds"]
    (only,) = facts["sessions"]
    assert {"commit", "uncommitted_changes", "versions", "processor", "device", "started", "threads"} <= set(only)
    assert path.relative_to(path.parents[2]).as_posix() == "fig1_left/paper/Adam,epochs=2,seed=[0,5].csv"
    assert str(path) in capsys.readouterr().out


def test_a_run_that_diverges_before_it_is_evaluated_still_ends(command, capsys):
    (path,) = command("optimizer=sgd_nesterov", "optimizer.lr=1e38", "seed=0", "evaluate_every=10")
    assert json.loads(path.with_suffix(".json").read_text())["diverged_members"] == [0]
    assert "1 member, 2 epochs, " in (out := capsys.readouterr().out)
    assert ", 1 diverged\n" in out


def test_sessions_are_those_that_differ_in_the_order_in_which_they_started():
    first, last = {"commit": "a", "uncommitted_changes": True, "started": "2026-01-01"}, {"commit": "b", "started": "2026-01-02"}
    assert merge_sessions([last, first, last]) == [first, last]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_of_the_configuration_trains(command, optimizer):
    (path,) = command(f"optimizer={optimizer}", "seed=0")
    costs = pd.read_csv(path)["cost"]
    assert costs.iloc[1] < costs.iloc[0]


def test_torchs_optimizers_come_in_unchanged_one_member_after_another(command):
    (path,) = command("optimizer._target_=torch.optim.NAdam", "seed=[0,1]", "optimizer.lr=[1e-3,1e-2]")
    table = pd.read_csv(path)
    assert table["member"].nunique() == 4
    assert set(table["optimizer"]) == {"NAdam"}
    assert table.groupby("member")[["seed", "lr"]].first().values.tolist() == [[0, 0.001], [0, 0.01], [1, 0.001], [1, 0.01]]


def test_a_pair_of_betas_is_a_pair_and_no_population(command):
    (path,) = command("optimizer._target_=torch.optim.NAdam", "+optimizer.betas=[0.8,0.9]", "seed=0")
    assert read(path).identity["optimizer"]["betas"] == [0.8, 0.9]
    assert pd.read_csv(path)["member"].nunique() == 1


def test_a_grid_is_one_population_and_agrees_with_its_members_alone(command):
    (path,) = command("optimizer.lr=[1e-3,1e-2]", "optimizer.beta1=[0,0.9]", "model.l2=[0,1e-2]", "seed=[0,1]")
    table = pd.read_csv(path)
    assert table["member"].nunique() == 16
    member = table[(table["seed"] == 1) & (table["lr"] == 0.01) & (table["beta1"] == 0.9) & (table["l2"] == 0.01)]
    other = next(p for p in command("optimizer.lr=1e-2", "optimizer.beta1=0.9", "model.l2=1e-2", "seed=1") if p != path)
    np.testing.assert_allclose(member["cost"], pd.read_csv(other)["cost"], rtol=1e-5)


def test_a_complete_run_is_not_repeated_unless_forced_or_changed(command, monkeypatch, capsys):
    (path,) = command("seed=0")
    before = path.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(program, "load", lambda **_: pytest.fail("the data are not needed"))
        command("seed=0", dataset=None)
    assert path.stat().st_mtime_ns == before
    assert "is complete" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="data.source=fake is invalid: expected one of auto, real, standin"):
        command("seed=0", "data.source=fake")
    command("seed=0", "force=true")
    assert path.stat().st_mtime_ns > before
    before = path.stat().st_mtime_ns
    path.with_suffix(".json").unlink()  # a run whose provenance is missing was cut off
    command("seed=0")
    assert path.stat().st_mtime_ns > before
    run = read(path)
    assert run.is_complete()
    assert not replace(run, identity=run.identity | {"batch_size": 64}).is_complete()
    assert not replace(run, extent=run.extent | {"epochs": 3}).is_complete()


def test_runs_on_standin_data_say_so_in_path_and_csv(command, images):
    (path,) = command("seed=0", dataset=replace(images, source="standin"))
    assert "standin" in path.parts
    assert set(pd.read_csv(path)["data"]) == {"standin"}
    before = path.stat().st_mtime_ns
    command("seed=0", "data.source=standin")
    assert path.stat().st_mtime_ns == before  # complete, too


def test_a_full_disk_is_one_sentence_and_loses_nothing(command, monkeypatch, tmp_path):
    (path,) = command("seed=0")
    old = path.read_text()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(SystemExit, match=r"error: cannot write .*Adam,epochs=2,seed=0.csv \(No space left on device\): make room"):
        command("seed=0", "force=true")
    assert path.read_text() == old
    trained = {f"{path.stem}.checkpoint0{suffix}" for suffix in ("", ".previous")}  # the work is not lost: the next run writes it
    assert {file.name for file in path.parent.iterdir()} == {path.name, path.with_suffix(".json").name, *trained}
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimizer=adm"], f"optimizer=adm is unknown: choose one of {', '.join(OPTIMIZERS)}"),
        (["experiment=fig9"], "experiment=fig9 is unknown: choose one of fig1_left, fig1_right"),
        (["optimizer.lrr=1"], "optimizer.lrr is not a configuration key: did you mean lr, of "),
        (["optimzer=adam"], "optimzer is not a configuration key: did you mean optimizer"),
        (["lr=0.01"], r"error: lr is not a configuration key: did you mean optimizer\.lr\?$"),
        (["property=regret"], r"property is a key of another configuration: run python run.py --config-name properties property="),
        (["+property=regret"], r"property is a key of another configuration: run python run.py --config-name properties property="),
        (["optimizer._target_=torch.optim.SGD", "optimizer.momentum=0.9"], r"needs a plus: \+optimizer\.momentum=0\.9$"),
        (["examples=100"], r"examples is not a configuration key: did you mean data\.examples\?$"),
        (
            ["optimizer=sfo", "optimizer.minibatches=9999"],
            "optimizer.minibatches=9999 is invalid: expected at most .*, the number of examples",
        ),
        (["optimizer._target_=torch.optim.SparseAdam"], "optimizer SparseAdam cannot train this model: SparseAdam does not support dense"),
        (["optimizer._target_=torch.optim.Muon"], "optimizer Muon: Muon only supports 2D parameters"),
        (["device=mps"], "device=mps is invalid: expected auto, cpu, cuda, or one GPU such as cuda:1"),
        (["device=cuda:99"], "device=cuda:99 is not available here"),
        (["model.hidden=1000000000", "experiment=fig2a"], r"1 member of 1,000,000,0.* parameters takes about [\d,]+ GiB, cpu has"),
        (["model.initial_std={a:1}"], "model.initial_std={'a': 1} is invalid: expected a finite number from 0 up"),
        (["experiment=fig2a", "model.start=[normal,fan_in]"], r"model.start=\[normal,fan_in\] is invalid: .*; sweep a list with -m"),
        (
            ["experiment=fig2a", "model.start=zero"],
            "model.start=zero is invalid: expected one of fan_in_uniform, fan_in, he_normal, normal",
        ),
        (["part=0", "force=true"], "force=true cannot be combined with part=0: train the whole run again, without part"),
        (
            ["optimizer=nadam", "+optimizer.betas=[0.5,0.9]"],
            r"optimizer.betas=\[0.5,0.9\] conflicts with optimizer.beta1 and optimizer.beta2",
        ),
        (["epochs=1000000000000"], "epochs=1000000000000 is invalid: expected a whole number above 0, at most 1000000"),
        (["experiment=fig4", "model.l2=[0.0,0.1]"], r"model.l2=\[0.0,0.1\] cannot differ within a population: sweep it with -m"),
        (["optimizer.lr=inf"], "optimizer.lr=inf is invalid: expected a finite number from 0 up"),
    ],
)
def test_mistakes_are_answered_in_one_sentence_and_write_nothing(command, tmp_path, overrides, words):
    with pytest.raises(SystemExit, match=words) as exit_:
        command("seed=0", *overrides)
    assert "\n" not in str(exit_.value)
    assert not list(tmp_path.rglob("*.csv"))


FINITE = "expected a finite number from 0 up"
COUNT = "expected a whole number above 0"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer.lr=inf", FINITE),
        ("optimizer.lr=nan", FINITE),
        ("optimizer.lr=-1", FINITE),
        ("optimizer.lr=1e39", FINITE),  # infinite in float32
        ("optimizer.lr=true", FINITE),
        ("optimizer.lr=fast", FINITE),
        ("optimizer.lr=null", FINITE),
        ("optimizer.lr=[]", FINITE),
        ("optimizer.lr=[1e-3,inf]", f"optimizer.lr=inf is invalid: {FINITE}"),
        ("optimizer.lr=[1e-3,1e-3]", "optimizer.lr=0.001 is invalid: expected every value of a list once"),
        ("optimizer.eps=inf", FINITE),
        ("optimizer.beta2=1", r"expected a number in \[0, 1\)"),
        ("+optimizer.beta1_decay=0", r"expected a number in \(0, 1\]"),
        ("optimizer.bias_correction=2", "expected true or false"),
        ("optimizer.bias_correction=maybe", "expected true or false"),
        ("+optimizer.amsgrad=1", "expected true or false"),
        ("+optimizer.gamma=1", "is unknown to Adam: it takes lr, betas, eps, weight_decay"),
        ("optimizer._target_=null", "expected a name"),
        ("optimizer._target_=subprocess.Popen", "expected the class of an optimizer, such as optim.Adam"),
        ("optimizer._target_=torch.optim.NAdm", r"cannot be imported \(ModuleNotFoundError: .*\): expected the class of an optimizer"),
        ("optimizer._target_=torch.optim.LBFGS", "expected an optimizer that steps without a closure"),
        ("model._target_=null", "expected a name"),
        ("model._target_=optim.Adam", "expected the class of a model"),
        ("model.l2=inf", FINITE),
        ("model.l2=-5", FINITE),
        ("model.l2=much", FINITE),
        ("model.initial_std=-1", FINITE),
        ("model.dropout=1", r"expected a number in \[0, 1\)"),
        ("model.dropout=[0,0.5]", r"model.dropout=\[0,0.5\] is invalid: .*; sweep a list with -m model.dropout="),
        ("+model.depth=2", "model.depth=2 is unknown to LogisticRegression: it takes l2, dropout, initial_std"),
        ("seed=-1", "expected a whole number from 0 up"),
        ("seed=true", "expected a whole number from 0 up"),
        ("seed=[0,true]", "seed=true is invalid: expected a whole number from 0 up"),
        ("seed=[0,0]", "seed=0 is invalid: expected every value of a list once"),
        ("seed=[]", r"seed=\[\] is invalid"),
        ("epochs=0", COUNT),
        ("epochs=true", COUNT),
        ("batch_size=true", COUNT),
        ("batch_size=[64,128]", "sweep a list with -m batch_size="),
        ("evaluate_every=1.5", COUNT),
        ("threads=0", f"{COUNT}, or auto"),
        ("threads=true", f"{COUNT}, or auto"),
        ("shard=0", f"{COUNT}, or null"),
        ("shard=true", f"{COUNT}, or null"),
        ("shuffle=flase", "expected true or false"),
        ("force=1", "expected true or false"),
        ("schedule=linear", "expected one of constant, inverse_sqrt_step"),
        ("decay=0", r"expected a number in \(0, 1\]"),
        ("precision=half", "expected one of float32, tf32, bfloat16"),
        ("products=mkl", "expected one of auto, torch, onednn"),
        ("device=null", "device=null is invalid: expected auto, cpu, cuda"),
        ("results=null", "results=null is invalid: expected the path of a folder"),
        ("results=5", "results=5 is invalid: expected the path of a folder"),
        ("+batchsize=64", "batchsize is not a configuration key: did you mean batch_size"),
        ("settings=good", "settings=good is unknown to fig1_left: choose one of paper, best, grid"),
        ("settings=5", "settings=5 is invalid: expected a name"),
        ("+hyperparameters.paper.Adam.l2=0.5", r"hyperparameters.paper.Adam: l2 is not a configuration key: did you mean model\.l2\?$"),
        ("+hyperparameters.paper.Adam.lrr=9", "lrr is not a configuration key: did you mean optimizer.lr, of "),
        ("+hyperparameters.paper.Adam.optimizer.rho=0.9", "optimizer.rho is not a configuration key"),
        ("+hyperparameters.paper.Adam.optimizer._target_=x", "optimizer._target_ cannot be set by a row"),
        ("+hyperparameters.paper.Adam.model=x", "model cannot be set by a row"),
        ("+hyperparameters.paper.Adam.settings=best", "settings cannot be set by a row"),
        ("+hyperparameters.best.Adam.epochs=1", "has no effect: this run reads hyperparameters.paper.Adam"),
        ("precision={a:float32}", "expected one of float32, tf32, bfloat16"),
        ("epochs={a:2}", COUNT),
        ("hyperparameters=5", "hyperparameters=5 is invalid: expected a row per optimizer"),
        ("hyperparameters.paper=5", "hyperparameters.paper=5 is invalid: expected a row per optimizer"),
        ("hyperparameters.paper.Adam=5", r"expected keys and values, such as {optimizer.lr: 0.001}"),
    ],
)
def test_invalid_values_are_answered_with_key_value_and_range(override, words):
    with pytest.raises(ValueError, match=words) as error:
        resolved(override)
    key, _, value = override.lstrip("+").partition("=")
    if "every" not in words and "is invalid" in str(error.value) and not {"[", "{"} & set(value) and "hyper" not in key:
        spelling = {"1e39": "1e+39"}.get(value, value)
        assert f"{key}={spelling} is invalid: " in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimizer=adafactor", "+optimizer.eps=1e-8"], r"optimizer.eps=1e-08 is invalid: expected 2 numbers, such as \[null,0.001"),
        (["optimizer=nadam", "+optimizer.betas=[0.9,true]"], "optimizer.betas=true is invalid: expected 2 numbers"),
        (["optimizer=nadam", "optimizer.beta1=[0.5,0.9]"], "is invalid for NAdam: expected one number; sweep it with -m"),
        (["optimizer=nadam", "settings=best"], "settings=best has no row for NAdam in fig1_left: choose one of Adam, "),
        (["experiment=fig4_100", "settings=best"], "settings=best is unknown to fig4_100: choose one of paper"),
        (["experiment=fig4", "model.latent=0"], f"model.latent=0 is invalid: {COUNT}"),
        (["experiment=fig3", "model.initial_std.stage1=inf"], f"model.initial_std.stage1=inf is invalid: {FINITE}"),
        (["optimizer._target_=torch.optim.SGD", "optimizer.beta1=0.5"], "optimizer.beta1=0.5 is unknown to SGD"),
        (["experiment=fig2b", "optimizer=sfo", "shuffle=false"], "shuffle has no effect on SFO: it chooses among optimizer.minibatches"),
    ],
)
def test_invalid_combinations_are_answered_too(overrides, words):
    with pytest.raises(ValueError, match=words):
        resolved(*overrides)


def test_populations_beyond_memory_are_refused_before_they_are_made():
    many = [number / 1000 for number in range(300)]
    optimizer = {"_target_": "optim.Adam", "lr": many, "beta1": many, "eps": many}
    with pytest.raises(ValueError, match="eps of 300 values give 27,000,000 members: expected at most 100,000"):
        Population.of({"seed": 0, "optimizer": optimizer, "model": {}})
    model = MultilayerNetwork(784, 10)  # 1,796,010 parameters, of 16 bytes with gradient and two averages
    check_memory(model, 1, torch.device("cpu"))
    with pytest.raises(ValueError, match="100,000 members of 1,796,010 parameters takes about 2,676 GiB, cpu has .*: train fewer at once"):
        check_memory(model, 100_000, torch.device("cpu"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_rows_give_every_optimizer_its_values(experiment):
    tables = OmegaConf.to_container(composed(experiment).hyperparameters)
    files = {OmegaConf.load(PROJECT / f"conf/optimizer/{choice}.yaml")._target_: choice for choice in OURS}
    assert {"Adam", "AdaMax"} <= tables["paper"].keys()
    for settings, table in tables.items():
        for optimizer, row in (table or {}).items():
            config = resolved(f"experiment={experiment}", f"optimizer={files[f'optim.{optimizer}']}", f"settings={settings}")
            for key, value in row.items():
                assert functools.reduce(dict.get, key.split("."), config) == value, (settings, optimizer, key)


def test_the_command_line_precedes_the_row_and_the_row_the_files():
    config = resolved("experiment=fig1_right", "optimizer=rmsprop")
    assert (config["optimizer"]["lr"], config["optimizer"]["rho"], config["optimizer"]["momentum"]) == (9e-4, 0.95, 0.0)
    overrides = ["experiment=fig3", "optimizer=adagrad", "settings=grid", "model.initial_std.stage2=0.5"]
    with initialize(version_base="1.3", config_path="../conf"):
        composed = resolve(compose("config", overrides), overrides)
    assert composed == resolved(*overrides)
    assert "hyperparameters" not in config
    config = resolved("experiment=fig1_left", "optimizer.lr=16", "schedule=constant", "epochs=3")
    assert (config["optimizer"]["lr"], config["schedule"], config["epochs"]) == (16, "constant", 3)
    grid = ("experiment=fig3", "settings=grid", "optimizer=adagrad")
    layers = {"stage1": 1e-4, "stage2": 0.01, "stage3": 0.01, "hidden": 0.02, "scores": 0.02}
    assert resolved(*grid)["model"]["initial_std"] == layers
    assert resolved(*grid, "model.initial_std.stage2=0.5")["model"]["initial_std"] == layers | {"stage2": 0.5}
    assert resolved(*grid, "model.initial_std=0.5")["model"]["initial_std"] == 0.5
    assert resolved("+hyperparameters.paper.Adam.epochs=7")["epochs"] == 7
    assert resolved("+hyperparameters.paper.Adam.optimizer.lr=7")["optimizer"]["lr"] == 7


@pytest.mark.parametrize("run", [run for run in catalogue(REFERENCE) if run.experiment], ids=str)
def test_tracked_runs_are_of_the_configuration_as_it_is(run):
    assert run.has_default_settings
    config = resolved(*program.as_spelled([f"experiment={run.experiment}", f"optimizer={run.optimizer}", f"settings={run.settings}"]))
    assert run.identity | {"evaluate_every": 0} == partition(config)["identity"] | {"evaluate_every": 0}


def test_figure_3_runs_from_its_configuration(command):
    rng = np.random.default_rng(0)
    splits = [Split(DenseRows(torch.tensor(rng.normal(size=(200, 3072)), dtype=torch.float32)), torch.arange(200) % 10) for _ in "ab"]
    (path,) = command("experiment=fig3_dropout", dataset=Dataset("real", *splits, classes=10, checksums={}))
    table = pd.read_csv(path)
    assert np.isfinite(table["cost"]).all()
    layers = ("stage1", "stage2", "stage3", "hidden", "scores")
    assert list(table.columns[len(COLUMNS) :]) == [f"{what}_{layer}" for layer in layers for what in ("vhat", "below_eps")]
    assert read(path).identity["model"]["initial_std"].keys() == set(layers)


def test_runs_whose_names_would_be_the_same_are_kept_apart(command):
    same = ("optimizer._target_=torch.optim.NAdam", "seed=0")
    long = f"optimizer.lr=[{','.join(f'1e-{n}' for n in range(1, 40))}]"
    paths = [command("optimizer=adam", *same), command("optimizer=adamax", *same), command(long, "seed=0"), command(long, "seed=1")]
    assert [len(found) for found in paths] == [1, 1, 2, 3]  # the first two are the same run: no value of Adam's or AdaMax's is left
    assert max(len(path.name) for path in paths[-1]) < 200


def test_another_class_runs_with_its_own_defaults_and_what_the_command_line_gives(command, capsys):
    (path,) = command("optimizer._target_=torch.optim.Adadelta", "seed=0")
    assert "fig1_left has no settings for Adadelta_torch: it runs with its own defaults, settings=defaults" in capsys.readouterr().err
    assert path.parent.name == "defaults"
    assert set(pd.read_csv(path)["settings"]) == {"defaults"}
    assert read(path).identity["optimizer"] == {"_target_": "torch.optim.Adadelta"}
    (_, given) = command("optimizer._target_=torch.optim.NAdam", "seed=0", "optimizer.beta1=0.5")
    assert read(given).identity["optimizer"]["betas"] == [0.5, 0.999]


def test_torchs_adam_takes_the_place_of_ours_with_the_papers_settings(command):
    (ours,) = command("seed=0")
    _, theirs = command("seed=0", "optimizer._target_=torch.optim.Adam")
    assert theirs.parent.name == "paper"
    assert read(theirs).identity["optimizer"]["lr"] == 9e-4
    np.testing.assert_allclose(pd.read_csv(theirs)["cost"], pd.read_csv(ours)["cost"], rtol=1e-5)  # float32, 6 steps


def test_a_class_named_on_the_command_line_gets_all_that_the_settings_have_for_it():
    config = resolved("experiment=fig1_right", "optimizer._target_=optim.RMSProp")
    assert config["optimizer"] == {"_target_": "optim.RMSProp", "lr": 9e-4, "rho": 0.95}  # Adam's file has no rho


@pytest.mark.parametrize("choice", OPTIMIZERS)
def test_the_defaults_of_every_choice_are_those_of_its_class(choice):
    config = resolved("experiment=fig1_left", f"optimizer={choice}", "settings=defaults")
    target = optimizer_class(config)
    defaults = {key: parameter.default for key, parameter in inspect.signature(target).parameters.items()}
    if issubclass(target, optim.RuleOptimizer) and "betas" in defaults:
        defaults |= dict(zip(("beta1", "beta2"), defaults["betas"], strict=True))
    for key, value in config["optimizer"].items():
        if key not in ("_target_", "minibatches"):  # of SFO, which has no default
            assert (tuple(value) if isinstance(value, list) else value) == defaults[key], key


def test_an_optimizer_without_settings_is_labelled_defaults_and_says_so(command, capsys):
    (path,) = command("optimizer=rmsprop", "seed=0")
    assert path.parent.name == "defaults"
    assert "no settings for RMSProp" in capsys.readouterr().err
    _, adams = sorted(command("settings=defaults", "seed=0"), key=lambda path: path.name, reverse=True)
    assert read(adams).identity["optimizer"]["lr"] == 1e-3  # that of Algorithm 1
    assert "no settings" not in capsys.readouterr().err  # they were asked for


def test_choices_are_found_however_they_are_spelled():
    assert program.as_spelled(["optimizer=Adam", "-m", "optimizer=SGDNesterov,adagrad_torch", "experiment=Fig1_Left"]) == [
        "optimizer=adam", "-m", "optimizer=sgd_nesterov,adagrad_torch", "experiment=fig1_left"]  # fmt: skip
    assert program.as_spelled(["optimizer=adm", "optimizer.lr=Adam", "--help"]) == ["optimizer=adm", "optimizer.lr=Adam", "--help"]


class Averaged(torch.optim.SGD):
    """Schedule-free in miniature: it trains at one point and evaluates at another, where the first class has larger scores."""

    training = None

    def train(self):
        self._move(-1 if self.training is False else 0)
        self.training = True

    def eval(self):
        self._move(1)
        self.training = False

    @torch.no_grad()
    def _move(self, by):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter[:, 0] += by

    def step(self, closure=None):
        assert self.training
        return super().step(closure)


def test_schedule_free_optimizers_are_evaluated_at_their_averages(command, monkeypatch):
    monkeypatch.setattr(torch.optim, "Averaged", Averaged, raising=False)
    (plain,) = command("optimizer=sgd", "seed=0", "model.l2=0")
    _, averaged = sorted(
        command("optimizer._target_=torch.optim.Averaged", "seed=0", "model.l2=0"), key=lambda path: "SGD" not in path.name
    )
    ours, theirs = pd.read_csv(averaged), pd.read_csv(plain)
    np.testing.assert_allclose(ours["cost"], theirs["cost"], rtol=1e-6)  # the same training, but for rounding on the way back
    assert (ours["train_cost"] - theirs["train_cost"]).min() > 0.1


@pytest.mark.slow
def test_sweeps_run_in_parallel_and_python_run_py_help_explains_the_groups(tmp_path):
    def call(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "run.py", *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=300)

    swept = call(
        "-m", "optimizer=adam,adagrad,sgd_nesterov", "epochs=1", "seed=0", "data.source=standin", f"results={tmp_path}", "threads=1"
    )
    assert swept.returncode == 0, swept.stderr
    assert {path.stem.split(",")[0] for path in tmp_path.rglob("*.csv")} == {"Adam", "AdaGrad", "SGDNesterov"}
    shown = call("--help")
    assert shown.returncode == 0
    for words in ("optimizer: ", "experiment: ", "adamax", "settings=best", "python run.py -m"):
        assert words in shown.stdout


def test_shards_train_the_same_population(command):
    (whole,) = command("optimizer.lr=[1e-3,1e-2,1e-1]", "seed=[0,1]")
    paths = command("optimizer.lr=[1e-3,1e-2,1e-1]", "seed=[0,1]", "shard=2", "force=true")
    (parts,) = set(paths) - {whole}
    # float32 sums in another order
    pd.testing.assert_frame_equal(pd.read_csv(parts), pd.read_csv(whole), rtol=1e-5)


@pytest.mark.parametrize("shard", ["null", "1"])
def test_a_killed_run_goes_on_and_ends_with_the_same_file(command, monkeypatch, capsys, shard):
    """Killed after its fifth epoch of eight (which with shards is the first of the second shard); a finished shard is not repeated."""
    overrides = ("epochs=4", "seed=[0,1]", f"shard={shard}")
    (path,) = command(*overrides)
    whole = path.read_bytes()
    path.unlink()
    half_written = part_path(path.with_suffix(".checkpoint7"))  # of a shard that this run does not have
    half_written.write_bytes(b"PK")
    saves, original = [], checkpoints.Checkpoint.save

    def save(self, state):
        original(self, state)
        saves.append(state["epochs"])
        if len(saves) == (5 if shard == "1" else 2):
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.Checkpoint, "save", save)
    sessions = itertools.count()
    monkeypatch.setattr(members, "session", lambda device: {**session(device), "started": f"session {next(sessions)}"})
    with pytest.raises(SystemExit, match="interrupted: rerun the command; training resumes after the last finished epoch"):
        command(*overrides)
    assert command(*overrides) == [path]
    assert [one["started"] for one in read(path).facts["sessions"]] == ["session 0", "session 1"]
    assert saves == ([1, 2, 3, 4, 1, 2, 3, 4] if shard == "1" else [1, 2, 3, 4])
    assert path.read_bytes() == whole
    assert sorted(file.suffix for file in path.parent.iterdir()) == [".csv", ".json"]


def test_a_checkpoint_without_its_library_of_products_is_refused_in_a_sentence(command, monkeypatch):
    """The first thing that a resuming run reads of it."""
    original = checkpoints.Checkpoint.save

    def save(self, state):
        original(self, {key: value for key, value in state.items() if key != "products"})
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints.Checkpoint, "save", save)
        with pytest.raises(SystemExit, match="interrupted"):
            command("seed=0", "epochs=2")
    with pytest.raises(SystemExit, match="does not fit the run.*to start again"):
        command("seed=0", "epochs=2")


def test_experiments_change_what_config_yaml_says_for_all():
    """batch_size and evaluate_every stand in config.yaml, shard and seed too; fig4 has its own."""
    config, quick = (
        resolved("experiment=fig4", "optimizer=adam", "settings=paper"),
        resolved("experiment=fig4", "optimizer=adamax", "settings=quick"),
    )
    assert [config[key] for key in ("batch_size", "shard", "seed", "epochs")] == [100, 12, 0, 10]
    assert config["data"]["examples"] == 60_000
    assert math.prod(len(config["optimizer"][key]) for key in ("lr", "beta1", "beta2", "bias_correction")) == 84
    assert (quick["epochs"], quick["data"]["examples"], quick["optimizer"]["beta2"]) == (10, 12_000, [0.99, 0.9999])


def test_long_runs_are_announced_with_what_is_left(capsys):
    announce("fig4 Adam", 84, 10, 0.0, 2400)
    announce("fig4 Adam", 84, 10, 0.25, 3 * 3600)
    announce("fig1_left Adam", 1, 46, 0.0, 61)
    announce("fig1_left Adam", 5, 46, 0.0, 30)
    assert capsys.readouterr().out.splitlines() == [
        "fig4 Adam: 84 members, 10 epochs: about 40 minutes on this machine",
        "fig4 Adam: 84 members, 10 epochs; 25% is done, the rest: about 3.0 hours on this machine",
        "fig1_left Adam: 1 member, 46 epochs: about 1 minute on this machine",
    ]


def test_a_log_gets_a_line_from_time_to_time_with_time_left_and_cost(capsys, monkeypatch):
    with progress_bar("fig4 Adam", 4, 1, 0) as bar:
        bar.update()
    assert capsys.readouterr().err == ""  # shorter than a minute
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    with progress_bar("fig4 Adam", 4, 1, 0) as bar:
        for cost in (3.0, 2.5):
            bar.set_postfix_str(f"cost {cost}", refresh=False)
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"fig4 Adam: 2 of 4 epochs, \d\d:\d\d so far, \S+ left, cost 3\.0", lines[1])
    assert lines[2].startswith("fig4 Adam: 3 of 4 epochs, ")


def test_a_summary_names_members_that_diverge_however_finite_their_cost():
    costs = {0: (0.5, 0.4), 1: (9e9, 2e9), 2: (0.4, 0.6), 3: (1.0, np.nan)}  # the second one falls, but stays far above a guess
    rows = [{"member": member, "epoch": number, "cost": cost} for member, pair in costs.items() for number, cost in enumerate(pair, 1)]
    table = pd.DataFrame(rows).assign(train_error=0.1, test_cost=0.7)
    assert progress.summary(table, 12, classes=10) == (
        "4 members, 2 epochs, 12.0 s of training, 1 diverged; diverging: members 1, 2, whose cost rose above its first value, to 2e+09; "
        "best cost 0.4000, its test cost 0.7000"
    )
    lost = table[table["member"] == 1].assign(member=0)
    assert progress.summary(lost, 1, classes=10).endswith(
        "0 diverged; diverging: member 0, whose cost rose above its first value, to 2e+09"
    )


@pytest.mark.parametrize(("file", "changed"), [("notes.txt", False), ("data/new.py", True), ("mine.py", True), ("README.md", False)])
def test_only_files_that_runs_depend_on_count_as_a_change_of_code(tmp_path, monkeypatch, file, changed):
    def git(*arguments: str) -> None:
        subprocess.run(("git", "-c", "user.name=a", "-c", "user.email=b", *arguments), cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(provenance, "PROJECT", tmp_path)
    for name in ("README.md", "run.py", "data/loading.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert provenance.uncommitted_changes() is None
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    (tmp_path / ".venv").symlink_to(tmp_path)
    assert provenance.uncommitted_changes() is False
    assert provenance.is_in_history("HEAD")
    assert not provenance.is_in_history("0" * 40)
    (tmp_path / file).write_text("new")
    assert provenance.uncommitted_changes() is changed


def test_the_recorded_commit_is_that_of_the_code_that_was_imported(monkeypatch):
    first = provenance.code()
    monkeypatch.setattr(provenance, "_git", lambda *arguments: "a later commit")
    assert {key: provenance.session(torch.device("cpu"))[key] for key in first} == first


def test_paths_tell_optimizers_apart_without_capitals():
    names = [optimizer_name({"optimizer": {"_target_": name}}) for name in ("optim.AdaGrad", "torch.optim.Adagrad", "torch.optim.Adam")]
    assert names == ["AdaGrad", "Adagrad_torch", "Adam"]


def test_ctrl_c_outside_a_run_is_one_sentence(capsys):
    process._end_quietly(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "interrupted: rerun the command\n"


def test_version_is_that_of_the_package_and_the_commit(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--version"])
    program.cli()
    assert re.fullmatch(
        r"adam-paper \d+\.\d+\.\d+, (commit [0-9a-f]{12}( with uncommitted changes)?|not in a git repository)\n", capsys.readouterr().out
    )
