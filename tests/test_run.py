"""run.py from the command line to the files: what it writes, what it does not repeat, how it answers mistakes."""

import errno
import inspect
import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import curves
import optim
import run as program
from data import Dataset, Split
from data.files import part_path
from data.rows import DenseRows
from experiments import checkpoints, recording
from experiments.config import adapt_optimizer, optimizer_class
from experiments.recording import COLUMNS, PROJECT, announce, joined, system

OPTIMIZERS = sorted(path.stem for path in (PROJECT / "conf/optimizer").glob("*.yaml"))
OURS = [name for name in OPTIMIZERS if "torch.optim" not in (PROJECT / f"conf/optimizer/{name}.yaml").read_text()]
EXPERIMENTS = sorted(path.stem for path in (PROJECT / "conf/experiment").glob("*.yaml"))


@pytest.fixture
def command(monkeypatch, tmp_path, images):
    """Runs run.py on the small images in this process; returns the CSV files it has left."""
    monkeypatch.setattr(program.data, "load", lambda **_: images)

    def call(*overrides: str) -> list[Path]:
        monkeypatch.setattr(sys, "argv", ["run.py", f"results={tmp_path}", "passes=2", "device=cpu", *overrides])
        program.cli()
        return sorted(tmp_path.rglob("*.csv"))

    return call


def test_a_run_leaves_a_tidy_csv_and_where_it_came_from(command, capsys):
    (path,) = command("seed=[0,5]")
    table, provenance = pd.read_csv(path), json.loads(path.with_suffix(".json").read_text())
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 2 * 2  # passes, members
    assert table.groupby("member")["seed"].first().tolist() == [0, 5]
    assert set(table["optimizer"]) == {"Adam"}
    assert set(table["data"]) == {"real"}
    assert provenance["config"]["optimizer"]["lr"] == 9e-4
    assert provenance["diverged_members"] == []
    assert 0 < provenance["seconds_after_pass"][0] < provenance["seconds_after_pass"][1] == provenance["training_seconds"]
    assert {"commit", "uncommitted_changes", "versions", "processor", "device", "data_md5", "started", "threads"} <= set(provenance)
    assert path.relative_to(path.parents[2]).as_posix() == "fig1_left/paper/Adam,passes=2,seed=[0,5].csv"
    assert str(path) in capsys.readouterr().out


def test_a_run_that_diverges_before_it_is_evaluated_still_ends(command, capsys):
    (path,) = command("optimizer=sgd_nesterov", "optimizer.lr=1e38", "seed=0", "evaluate_every=10")
    assert json.loads(path.with_suffix(".json").read_text())["diverged_members"] == [0]
    assert "1 diverged; best cost nan, its test cost nan" in capsys.readouterr().out


def test_provenance_of_several_sessions_is_that_of_the_last_and_owns_up_to_the_others():
    clean = {"commit": "b", "uncommitted_changes": False, "started": "2026-01-02"}
    dirty = {"commit": "a", "uncommitted_changes": True, "started": "2026-01-01"}
    assert joined([clean, clean]) == clean
    assert joined([clean, dirty, clean]) == {**clean, "uncommitted_changes": True, "earlier": [dirty]}


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
    assert table.groupby("member")[["seed", "hyperparameters"]].first().values.tolist() == [
        [0, "lr=0.001"],
        [0, "lr=0.01"],
        [1, "lr=0.001"],
        [1, "lr=0.01"],
    ]


def test_a_pair_of_betas_is_a_pair_and_no_population(command):
    (path,) = command("optimizer._target_=torch.optim.NAdam", "+optimizer.betas=[0.8,0.9]", "seed=0")
    assert json.loads(path.with_suffix(".json").read_text())["config"]["optimizer"]["betas"] == [0.8, 0.9]
    assert pd.read_csv(path)["member"].nunique() == 1


def test_torchs_adam_and_ours_train_alike(command):
    paths = command("seed=[0,1]"), command("seed=[0,1]", "optimizer._target_=torch.optim.Adam")
    ours, torchs = (pd.read_csv(path)["cost"] for path in paths[1])
    np.testing.assert_allclose(ours, torchs, rtol=1e-5)  # float32, 6 steps


def test_a_grid_is_one_population_and_agrees_with_its_members_alone(command):
    (path,) = command("optimizer.lr=[1e-3,1e-2]", "optimizer.beta1=[0,0.9]", "model.l2=[0,1e-2]", "seed=[0,1]")
    table = pd.read_csv(path)
    assert table["member"].nunique() == 16
    member = table[(table["seed"] == 1) & (table["hyperparameters"] == "lr=0.01 beta1=0.9 l2=0.01")]
    other = next(p for p in command("optimizer.lr=1e-2", "optimizer.beta1=0.9", "model.l2=1e-2", "seed=1") if p != path)
    np.testing.assert_allclose(member["cost"], pd.read_csv(other)["cost"], rtol=1e-5)


def test_a_complete_run_is_not_repeated_unless_forced_or_changed(command, monkeypatch, capsys):
    (path,) = command("seed=0")
    before = path.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(program.data, "load", lambda **_: pytest.fail("the data are not needed"))
        command("seed=0")
    assert path.stat().st_mtime_ns == before
    assert "is complete" in capsys.readouterr().out
    command("seed=0", "force=true")
    assert path.stat().st_mtime_ns > before
    # A run whose provenance is missing was cut off; one whose configuration differs is another run.
    for spoil in (lambda p: p.unlink(), lambda p: p.write_text(p.read_text().replace('"batch_size": 128', '"batch_size": 64'))):
        before = path.stat().st_mtime_ns
        spoil(path.with_suffix(".json"))
        command("seed=0")
        assert path.stat().st_mtime_ns > before


def test_runs_on_standin_data_say_so_in_path_and_csv(command, monkeypatch, images):
    from dataclasses import replace

    monkeypatch.setattr(program.data, "load", lambda **_: replace(images, source="standin"))
    (path,) = command("seed=0")
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

    monkeypatch.setattr(recording.pd.DataFrame, "to_csv", full)
    with pytest.raises(SystemExit, match=r"error: cannot write .*Adam,passes=2,seed=0.csv \(No space left on device\): make room"):
        command("seed=0", "force=true")
    assert path.read_text() == old
    trained = path.with_suffix(".checkpoint0").name  # the work is not lost: the next run writes it
    assert {file.name for file in path.parent.iterdir()} == {path.name, path.with_suffix(".json").name, trained}
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimizer=adm"], f"optimizer=adm is unknown: choose one of {', '.join(OPTIMIZERS)}"),
        (["experiment=fig9"], "experiment=fig9 is unknown: choose one of fig1_left, fig1_right"),
        (["optimizer.lrr=1"], "optimizer.lrr is not a configuration key: did you mean lr, of "),
        (["optimzer=adam"], "optimzer is not a configuration key: did you mean optimizer"),
        (["lr=0.01"], r"error: lr is not a configuration key: did you mean optimizer\.lr\?$"),
        (["examples=100"], r"examples is not a configuration key: did you mean data\.examples\?$"),
        (["+optimizer.gamma=1"], "optimizer.gamma=1 is unknown to Adam: it takes lr, betas, eps, weight_decay"),
        (["settings=good"], "settings=good is unknown to fig1_left: choose one of paper, best, grid"),
        (["settings=best", "optimizer=rmsprop"], "settings=best has nothing for RMSProp in fig1_left: it knows Adam, "),
        (["settings=best", "experiment=fig4_100"], "settings=best is unknown to fig4_100: choose one of paper"),
        (["optimizer._target_=torch.optim.SparseAdam"], "optimizer SparseAdam cannot train this model: SparseAdam does not support dense"),
        (["optimizer._target_=torch.optim.Muon"], "optimizer Muon: Muon only supports 2D parameters"),
        (
            ["optimizer=adafactor", "+optimizer.eps=1e-8"],
            r"optimizer.eps=1e-08 is invalid for Adafactor: expected 2 numbers, such as \(None",
        ),
        (["optimizer=nadam", "optimizer.beta1=[0.5,0.9]"], r"optimizer.betas=.* is invalid for NAdam: expected 2 numbers"),
        (["optimizer=nadam", "settings=best"], "settings=best has nothing for NAdam in fig1_left"),
        (["optimizer._target_=torch.optim.LBFGS"], "torch.optim.LBFGS needs a closure in every step"),
        (["model.l2=-5"], "model.l2=-5 should be a number from 0 up"),
        (["model.l2=much"], "model.l2=much should be a number from 0 up"),
        (["device=meta"], "device=meta is not available here"),
        (["optimizer.lr=-1"], "lr=-1 should not be negative"),
        (["optimizer=sfo", "optimizer.minibatches=9999"], "optimizer.minibatches=9999 should be at most .*, the number of examples"),
        (["optimizer.lr=[]"], r"optimizer.lr=\[\] should be a number, or a list of numbers"),
        (["optimizer.lr=fast"], "lr='fast' should be a number"),
        (["optimizer._target_=torch.optim.NAdm"], "optimizer._target_=torch.optim.NAdm cannot be imported"),
        (["shard=0"], "shard=0 should be a whole number above 0, or null"),
        (["shuffle=flase"], "shuffle=flase should be true or false"),
        (["model.initial_std=-1"], "model.initial_std=-1 should be a number from 0 up"),
        (["experiment=fig4", "model.latent=0"], "model.latent=0 should be a whole number above 0"),
        (["passes=0"], "passes=0 should be a whole number above 0"),
        (["seed=-1"], "seed=-1 should be a whole number from 0 up"),
        (["schedule=linear"], "schedule=linear is unknown: choose one of constant"),
        (["model.dropout=[0,0.5]"], "model.dropout=.* cannot differ within a population: sweep it with -m"),
        (["model.dropout=1"], "model.dropout=1 should lie in"),
        (["device=cuda:99"], "device=cuda:99 is not available here"),
        (["threads=0"], "threads=0 is invalid: expected a whole number above 0, or auto"),
    ],
)
def test_mistakes_are_answered_in_one_sentence_and_write_nothing(command, tmp_path, overrides, words):
    with pytest.raises(SystemExit, match=words) as exit_:
        command("seed=0", *overrides)
    assert "\n" not in str(exit_.value)
    assert not list(tmp_path.rglob("*.csv"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_settings_give_every_optimizer_its_values_and_the_command_line_has_the_last_word(experiment):
    with initialize(version_base="1.3", config_path="../conf"):
        tables = compose("config", [f"experiment={experiment}"]).hyperparameters
        for optimizer in OURS:
            for settings in tables:
                if not may_be_chosen(experiment, optimizer, settings):
                    continue
                cfg = compose("config", [f"experiment={experiment}", f"optimizer={optimizer}", f"settings={settings}"])
                given = cfg.hyperparameters[settings].get(cfg.optimizer._target_.removeprefix("optim."), {})
                for key, value in given.items():
                    if key.endswith("_std"):  # of several layers
                        assert value in cfg.model.initial_std.values()
                        continue
                    places = [place[key] for place in (cfg, cfg.optimizer, cfg.model, cfg.data) if key in place]
                    assert places == [value]
                key = "minibatches" if optimizer == "sfo" else "lr"
                last_words = [f"optimizer.{key}=16", "schedule=constant"]
                changed = compose("config", [f"experiment={experiment}", f"optimizer={optimizer}", *last_words])
                assert (changed.optimizer[key], changed.schedule) == (16, "constant")


@pytest.mark.parametrize("csv", sorted(curves.REFERENCE.glob("fig*/*/*.csv")), ids=lambda csv: "/".join(csv.parts[-3:]))
def test_tracked_runs_are_of_the_configuration_as_it_is(csv):
    settings, experiment = csv.parent.name, csv.parent.parent.name
    optimizer = {"SGDNesterov": "sgd_nesterov"}.get(name := csv.stem.partition(",")[0], name.lower())
    with initialize(version_base="1.3", config_path="../conf"):
        cfg = compose("config", [f"experiment={experiment}", f"optimizer={optimizer}", f"settings={settings}"])
        configured = pd.json_normalize(OmegaConf.to_container(cfg, resolve=True)).iloc[0]
    tracked = pd.json_normalize(curves.provenance(csv)["config"]).iloc[0]
    tracked = tracked.drop(["passes", "seed", "device", "shard", "evaluate_every"], errors="ignore")  # how much, how fast and how often
    assert tracked.to_dict() == configured[tracked.index].to_dict()


@pytest.mark.parametrize("target", ["reproduce", "reproduce-gpu", "tune-fig1", "tune-fig2", "tune-fig3", "tune-fig4"])
def test_what_make_runs_can_be_composed(target):
    recipe = subprocess.run(["make", "-n", "-o", "setup", target], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    commands = []
    for line in recipe.splitlines():
        loop = re.match(r"for candidate in (.+?); do", line)
        for candidate in shlex.split(loop[1]) if loop else [""]:
            commands += re.findall(r"run\.py (?!--config-name)([^|;]+)", line.replace("$candidate", candidate))
    assert commands
    with initialize(version_base="1.3", config_path="../conf"):
        for command in commands:
            words = [word for word in command.split() if word != "-m"]
            (jobs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(words), max_batch_size=None)
            for job in jobs:
                OmegaConf.to_container(compose("config", job), resolve=True)


def test_figure_3_runs_from_its_configuration(command, monkeypatch):
    rng = np.random.default_rng(0)
    splits = [Split(DenseRows(torch.tensor(rng.normal(size=(200, 3072)), dtype=torch.float32)), torch.arange(200) % 10) for _ in "ab"]
    monkeypatch.setattr(program.data, "load", lambda **_: Dataset("colours", "real", *splits, classes=10, checksums={}))
    (path,) = command("experiment=fig3_dropout")
    table = pd.read_csv(path)
    assert np.isfinite(table["cost"]).all()
    layers = ("stage1", "stage2", "stage3", "hidden", "scores")
    assert list(table.columns[len(COLUMNS) :]) == [f"{what}_{layer}" for layer in layers for what in ("vhat", "below_eps")]
    assert json.loads(path.with_suffix(".json").read_text())["config"]["model"]["initial_std"].keys() == set(layers)


def may_be_chosen(experiment: str, optimizer: str, settings: str) -> bool:
    """Whether the experiment has these settings for the optimizer; `paper` is open to all."""
    cfg = compose("config", [f"experiment={experiment}", f"optimizer={optimizer}"])
    name = cfg.optimizer._target_.removeprefix("optim.")
    return settings == "paper" or name in (cfg.hyperparameters.get(settings) or {})


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_settings_are_for_optimizers_that_there_are(experiment):
    with initialize(version_base="1.3", config_path="../conf"):
        tables = compose("config", [f"experiment={experiment}"]).hyperparameters
    names = {name for table in tables.values() if table for name in table}
    assert names <= set(optim.__all__)
    assert {"Adam", "AdaMax"} <= names


def test_runs_whose_names_would_be_the_same_are_kept_apart(command):
    same = ("optimizer._target_=torch.optim.NAdam", "seed=0")
    long = f"optimizer.lr=[{','.join(f'1e-{n}' for n in range(1, 40))}]"
    paths = [command("optimizer=adam", *same), command("optimizer=adamax", *same), command(long, "seed=0"), command(long, "seed=1")]
    assert [len(found) for found in paths] == [1, 1, 2, 3]  # the first two are the same run: no value of Adam's or AdaMax's is left
    assert max(len(path.name) for path in paths[-1]) < 200


def test_another_class_runs_with_its_own_defaults_and_what_the_command_line_gives(command, capsys):
    (path,) = command("optimizer._target_=torch.optim.Adadelta", "seed=0")
    assert "fig1_left has no settings for Adadelta: it runs with its own defaults, settings=defaults" in capsys.readouterr().err
    assert path.parent.name == "defaults"
    assert set(pd.read_csv(path)["settings"]) == {"defaults"}
    assert json.loads(path.with_suffix(".json").read_text())["config"]["optimizer"] == {"_target_": "torch.optim.Adadelta"}
    (_, given) = command("optimizer._target_=torch.optim.NAdam", "seed=0", "optimizer.beta1=0.5")
    assert json.loads(given.with_suffix(".json").read_text())["config"]["optimizer"]["betas"] == [0.5, 0.999]
    with pytest.raises(SystemExit, match="optimizer.beta1=0.5 is unknown to SGD"):
        command("optimizer._target_=torch.optim.SGD", "optimizer.beta1=0.5")


def test_torchs_adam_takes_the_place_of_ours_with_the_papers_settings(command):
    (ours,) = command("seed=0")
    _, theirs = command("seed=0", "optimizer._target_=torch.optim.Adam")
    assert theirs.parent.name == "paper"
    assert json.loads(theirs.with_suffix(".json").read_text())["config"]["optimizer"]["lr"] == 9e-4
    np.testing.assert_allclose(pd.read_csv(theirs)["cost"], pd.read_csv(ours)["cost"], rtol=1e-5)  # float32, 6 steps


def test_a_class_named_on_the_command_line_gets_all_that_the_settings_have_for_it():
    with initialize(version_base="1.3", config_path="../conf"):
        target = "optimizer._target_=optim.RMSProp"
        config = OmegaConf.to_container(compose("config", ["experiment=fig1_right", target]), resolve=True)
    adapt_optimizer(config, [target])
    assert config["optimizer"] == {"_target_": "optim.RMSProp", "lr": 9e-4, "rho": 0.95}  # Adam's file has no rho


@pytest.mark.parametrize("choice", OPTIMIZERS)
def test_the_defaults_of_every_choice_are_those_of_its_class(choice):
    with initialize(version_base="1.3", config_path="../conf"):
        cfg = compose("config", [f"optimizer={choice}", "settings=defaults"])
    config = OmegaConf.to_container(cfg, resolve=True)
    adapt_optimizer(config, [])
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
    assert json.loads(adams.with_suffix(".json").read_text())["config"]["optimizer"]["lr"] == 1e-3  # that of Algorithm 1
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
        "-m", "optimizer=adam,adagrad,sgd_nesterov", "passes=1", "seed=0", "data.source=standin", f"results={tmp_path}", "threads=1"
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
    """Killed after its fifth pass of eight (which with shards is the first of the second shard); a finished shard is not repeated."""
    overrides = ("passes=4", "seed=[0,1]", f"shard={shard}")
    (path,) = command(*overrides)
    whole = path.read_bytes()
    path.unlink()
    half_written = part_path(path.with_suffix(".checkpoint7"))  # of a shard that this run does not have
    half_written.write_bytes(b"PK")
    saves, original = [], checkpoints.Checkpoint.save

    def save(self, state):
        original(self, state)
        saves.append(state["passes"])
        if len(saves) == (5 if shard == "1" else 2):
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.Checkpoint, "save", save)
    sessions = itertools.count()
    monkeypatch.setattr(program, "system", lambda device: {**system(device), "started": f"session {next(sessions)}"})
    with pytest.raises(SystemExit, match="interrupted: started again, the run goes on from its last finished pass"):
        command(*overrides)
    assert command(*overrides) == [path]
    provenance = json.loads(path.with_suffix(".json").read_text())
    assert [session["started"] for session in (*provenance["earlier"], provenance)] == ["session 0", "session 1"]
    assert saves == ([1, 2, 3, 4, 1, 2, 3, 4] if shard == "1" else [1, 2, 3, 4])
    assert path.read_bytes() == whole
    assert sorted(file.suffix for file in path.parent.iterdir()) == [".csv", ".json"]


def test_experiments_change_what_config_yaml_says_for_all(command):
    """batch_size and evaluate_every stand in config.yaml, shard and seed too; fig4 has its own."""
    with initialize(version_base="1.3", config_path="../conf"):
        cfg = compose("config", ["experiment=fig4"])
        quick = compose("config", ["experiment=fig4", "settings=quick", "optimizer=adamax"])
    assert (cfg.batch_size, cfg.shard, cfg.seed, cfg.passes, cfg.data.examples) == (100, 12, 0, 10, 60_000)
    assert len(list(cfg.optimizer.lr)) * len(cfg.optimizer.beta1) * len(cfg.optimizer.beta2) * len(cfg.optimizer.bias_correction) == 84
    assert (quick.passes, quick.data.examples, list(quick.optimizer.beta2)) == (10, 12_000, [0.99, 0.9999])


def test_long_runs_are_announced_with_what_is_left(capsys):
    announce("fig4 Adam", 84, 10, 0.0, 2400)
    announce("fig4 Adam", 84, 10, 0.25, 3 * 3600)
    announce("fig1_left Adam", 5, 46, 0.0, 61)
    announce("fig1_left Adam", 5, 46, 0.0, 30)
    assert capsys.readouterr().out.splitlines() == [
        "fig4 Adam: 84 members, 10 passes: about 40 minutes here",
        "fig4 Adam: 84 members, 10 passes; 25% is done, the rest: about 3.0 hours here",
        "fig1_left Adam: 5 members, 46 passes: about 1 minute here",
    ]
