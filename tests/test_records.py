"""Runs on disk: which keys say what, which files are trusted, and what the scripts find in what run.py wrote."""

import itertools
import json
import os
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize
from matplotlib import pyplot as plt
from omegaconf import OmegaConf

from experiments.records import RecordError, Run, catalogue, partition, read, slug
from made_up import write_run
from scripts import plot, promote, tables
from scripts.analysis.runs import canonical_runs, read_runs
from scripts.figures import __main__ as figures

# What run.py computes, how much of it, and where: every key of both configurations.
PARTS = {
    "config": {
        "identity": {"experiment", "settings", "batch_size", "shuffle", "schedule", "decay", "evaluate_every", "precision",
                     "second_moments", "hyperparameters", "data", "model", "optimizer"},
        "extent": {"epochs", "seed", "shard"},
        "machine": {"device", "part", "threads", "products", "cuda_graph", "results", "force", "data.root", "data.source"},
    },
    "properties": {"identity": {"property"}, "extent": {"seeds"}, "machine": {"threads", "results", "force"}},
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_every_key_of_a_configuration_is_in_one_part(name):
    with initialize(version_base="1.3", config_path="../conf"):
        config = OmegaConf.to_container(compose(name))
    parts = partition(config)
    assert {part: set(keys) for part, keys in parts.items()} == PARTS[name]
    if name == "config":
        assert set(parts["identity"]["data"]) == {"name", "examples"}


def test_file_names_are_readable_and_differ_where_runs_do():
    parts = {"identity": {"lr": 1}, "extent": {"seed": 0}, "machine": {}}
    assert slug("Adam", [], parts) == "Adam.csv"
    assert slug("Adam", ["optimizer.lr=[1e-3,1e-2]", "seed=0"], parts) == "Adam,optimizer.lr=[1e-3,1e-2],seed=0.csv"
    lost = [slug("Adam", ["a=b/c"], parts), slug("Adam", ["a=b:c"], parts | {"identity": {"lr": 2}})]
    assert lost[0] != lost[1]
    assert all(name.startswith("Adam,a=b_c,") for name in lost)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change(path, old, new):
    record = path.with_suffix(".json").read_text()
    assert old in record
    path.with_suffix(".json").write_text(record.replace(old, new))


# What may happen to the two files of a run. Where the JSON is damaged, it is the one that the message names.
DAMAGES = {
    "a flipped bit": lambda path: flip(path),
    "a cut CSV": lambda path: path.write_bytes(path.read_bytes()[:-30]),
    "another table": lambda path: path.write_text(path.read_text().replace(",0.5\n", ",0.6\n")),
    "an empty CSV": lambda path: path.write_text(""),
    "the JSON has another lr": lambda path: change(path, "0.001", "0.002"),
} | {
    f"the JSON is {text}": lambda path, text=text: path.with_suffix(".json").write_text(text)
    for text in ("", "[]", "{}", "null", '"text"', '{"csv": null}', '{"data": "real"')
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_found_in_one_sentence_by_everyone_and_nothing_is_written(tmp_path, monkeypatch, damage):
    runs, tracked = tmp_path / "runs", tmp_path / "tracked"
    path = write_run(runs, "Adam", [0.5, 0.4])
    DAMAGES[damage](path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    words = f"{path} is not the table of 4 rows"
    if "JSON" in damage:
        words = f"{path.with_suffix('.json')} {'was changed after' if 'lr' in damage else 'is not the record of a run: restore'}"
    for reading in (lambda: read(path), lambda: catalogue(tmp_path)):
        with pytest.raises(RecordError, match=words):
            reading()
    monkeypatch.setattr(promote, "REFERENCE", tracked)
    for main, arguments in (
        (plot.main, [runs]), (plot.main, [path]), (promote.main, [runs]), (promote.main, [path]),
        (tables.main, ["--runs", runs]), (figures.main, ["--runs", runs]),
    ):  # fmt: skip
        monkeypatch.setattr("sys.argv", ["script", *map(str, arguments)])
        with pytest.raises(SystemExit, match=f"^error: {words}") as exit_:
            main()
        assert "\n" not in str(exit_.value)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_record_without_what_its_readers_need_is_damaged(tmp_path):
    path = write_run(tmp_path, "Adam", [0.5, 0.4])
    whole = json.loads(path.with_suffix(".json").read_text())
    for missing in ("overrides", "identity", "extent", "machine", "csv", "sessions", "experiment", "settings", "optimizer", "data"):
        path.with_suffix(".json").write_text(json.dumps({key: value for key, value in whole.items() if key != missing}))
        with pytest.raises(RecordError, match=r"Adam\.json is not the record of a run"):
            read(path)


@pytest.mark.parametrize("damage", ["a flipped bit", "a cut CSV", "the JSON is {}"])
def test_run_py_refuses_a_damaged_run_until_it_is_forced(command, damage):
    (path,) = command("seed=0")
    whole = path.read_bytes()
    DAMAGES[damage](path)
    damaged = path.read_bytes()
    with pytest.raises(SystemExit, match=r"error: .*: restore both files, or train again with force=true$"):
        command("seed=0")
    assert path.read_bytes() == damaged
    assert command("seed=0", "force=true") == [path]
    assert path.read_bytes() == whole
    assert read(path).is_complete()


def test_no_kill_leaves_a_csv_beside_the_json_of_another_run(tmp_path, monkeypatch):
    """Killed before every rename and removal in turn; what is left is the old run, nothing, or the new run."""
    kills = itertools.count()
    for last in range(5):
        path = write_run(tmp_path / str(last), "Adam", [0.5, 0.4])
        steps = iter(range(last))

        def killed(original, steps=steps):
            def step(*arguments, **options):
                if next(steps, None) is None:
                    raise KeyboardInterrupt
                return original(*arguments, **options)

            return step

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killed(os.replace))
            patch.setattr(Path, "unlink", killed(Path.unlink))
            try:
                write_run(tmp_path / str(last), "Adam", [0.9, 0.8])
            except KeyboardInterrupt:
                next(kills)
        found = catalogue(tmp_path / str(last))
        assert [run.table()["cost"].min() for run in found] in ([0.4], [], [0.8])
        assert pd.read_csv(path)["cost"].min() in ((0.4,) if last < 2 else (0.8,))
    assert next(kills) >= 3


def test_half_written_files_are_no_runs(tmp_path):
    path = write_run(tmp_path, "Adam", [0.5, 0.4])
    for suffix in (".csv", ".json"):  # whole, but not yet renamed
        (tmp_path / f".AdaMax.part{suffix}").write_bytes(path.with_suffix(suffix).read_bytes())
    (tmp_path / ".SFO.part.json").write_text("{")
    (tmp_path / ".SFO.part.csv").write_text("")
    assert [run.csv for run in catalogue(tmp_path)] == [path]


def test_csv_or_json_alone_is_no_finished_run(tmp_path):
    path, other = write_run(tmp_path, "Adam", [0.5]), write_run(tmp_path, "AdaGrad", [0.5])
    path.unlink()
    other.with_suffix(".json").unlink()
    assert catalogue(tmp_path) == []
    assert read(path) is read(other) is None


def test_what_run_py_writes_on_standin_data_is_read_refused_by_compare_and_drawn_as_standin(command, tmp_path, monkeypatch, capsys):
    (path,) = command("seed=0", "data.source=standin", "data.examples=300", dataset=None)
    (run,) = catalogue(tmp_path)
    assert run.csv == path
    assert run.labels == {"experiment": "fig1_left", "settings": "paper", "optimizer": "Adam", "data": "standin"}
    assert (run.extent, run.overrides) == ({"epochs": 2, "seed": 0, "shard": None}, ("data.examples=300", "epochs=2", "seed=0"))
    assert not run.has_default_settings
    with pytest.raises(RecordError, match="cannot be compared: it was trained on stand-in data"):
        plot.compare(run)
    monkeypatch.setattr("scripts.analysis.runs.Run.has_default_settings", True)  # a run of all stand-in images takes seconds
    monkeypatch.setattr("sys.argv", ["figures", "--runs", str(tmp_path), "fig1"])
    figures.main()
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"fig1_standin.png", "fig1_standin.svg"}
    assert "STAND-IN DATA" in (tmp_path / "figures" / "fig1_standin.svg").read_text()


def test_what_run_py_writes_is_compared_and_drawn(command, tmp_path, monkeypatch):
    (path,) = command("seed=[0,1]")
    (run,) = canonical_runs(tmp_path, "fig1_left", "paper")
    assert run.csv == path
    table = read_runs(tmp_path, "fig1_left", "paper")
    written = pd.read_csv(path)
    assert table[list(written)].equals(written)
    assert table["x"].tolist() == [0, 1, 0, 1]
    assert table["seconds"].tolist() == pytest.approx([seconds / 2 for seconds in run.facts["seconds_after_epoch"]] * 2)
    assert plot.compare(run).startswith(f"{path}: fig1_left Adam, settings=paper: rms log ratio to the paper's curve ")
    drawn = []
    monkeypatch.setattr(plt, "close", drawn.append)
    monkeypatch.setattr("sys.argv", ["figures", "--runs", str(tmp_path), "fig1"])
    figures.main()
    (line,) = [line for line in drawn[0].axes[0].get_lines() if line.get_label() == "Adam"]
    assert line.get_ydata().tolist() == pytest.approx(written.groupby("epoch")["cost"].mean().tolist())
    assert (tmp_path / "figures" / "fig1.png").stat().st_size > 10_000
    monkeypatch.undo()
    plt.close("all")


def test_a_grid_is_one_run_whose_columns_have_the_exact_values(command, tmp_path):
    lrs = [0.1 + 0.2, 1e-3, 1 / 3]
    (path,) = command(f"optimizer.lr=[{','.join(map(repr, lrs))}]", "optimizer.beta1=[0,0.9]", "seed=[0,5]")
    (run,) = catalogue(tmp_path)
    table = run.table()
    assert run.hyperparameters == ["lr", "beta1"]
    assert run.identity["optimizer"]["lr"] == lrs
    members = table.groupby("member")[["seed", "lr", "beta1"]].first()
    assert members.to_numpy().tolist() == [[seed, lr, beta1] for seed in (0, 5) for lr in lrs for beta1 in (0, 0.9)]
    lines = plot.compare(run).splitlines()
    assert len(lines) == 6
    assert lines[0].startswith(f"{path}: fig1_left Adam, settings=paper, lr=0.30000000000000004, beta1=0.0: ")


def test_a_run_is_complete_if_labels_identity_and_extent_are_the_same(tmp_path):
    config = {
        "epochs": 2,
        "seed": 0,
        "shard": None,
        "device": "cpu",
        "optimizer": {"lr": 1},
        "data": {"root": "/a"},
        "results": str(tmp_path),
    }
    labels = {"experiment": "fig1_left", "settings": "paper", "optimizer": "Adam", "data": "real"}
    write_run(tmp_path, "Adam", [0.5, 0.4], seeds=(0,))  # at the same path
    assert not Run.of(config, [], **labels).is_complete()
    Run.of(config, [], **labels).write(pd.DataFrame({"member": [0], "epoch": [1], "cost": [1.0]}), {"sessions": [{"started": ""}]})
    assert Run.of(config | {"device": "cuda", "data": {"root": "/b"}}, [], **labels).is_complete()
    for other in ({"epochs": 3}, {"seed": 1}, {"shard": 1}, {"optimizer": {"lr": 2}}, {"data": {"examples": 9}}):
        assert not Run.of(config | other, [], **labels).is_complete(), other
    (tmp_path / "file").write_text("")
    blocked = Run.of(config | {"results": str(tmp_path / "file")}, [], **labels)
    with pytest.raises(OSError, match="cannot write .*: make room"):
        blocked.write(pd.DataFrame(), {})
