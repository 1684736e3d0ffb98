"""Runs of one's own: compared with the paper, and drawn over its curves and the tracked runs."""

import html

import numpy as np
import pytest
from matplotlib import pyplot as plt

from experiments.records import RecordError, read
from made_up import write_run, write_sweep, write_table
from scripts import plot
from scripts.analysis.published import published
from scripts.report import charts


def adams(points: int) -> np.ndarray:
    return published("fig1_left").query("optimizer == 'Adam'").sort_values("x")["y"].to_numpy()[:points]


def test_compare_prints_the_rank_among_the_other_tracked_optimizers(tmp_path, monkeypatch):
    tracked, own = tmp_path / "tracked", tmp_path / "own"
    for optimizer, costs in (("AdaGrad", [0.9, 0.8, 0.7]), ("SGDNesterov", [0.5, 0.4]), ("Adam", [0.1, 0.1, 0.1])):
        write_run(tracked, optimizer, costs)
    monkeypatch.setattr(plot, "REFERENCE", tracked)
    run = read(write_run(own, "Adam", [0.6, 0.3, 0.6], seeds=(0,)))
    assert plot.compare(run).endswith("optimizers: 2 of 3 in epoch 1, 1 of 3 in epoch 2, 1 of 2 in epoch 3")


def test_any_run_on_real_data_is_compared_with_the_curves_of_its_panel(tmp_path, monkeypatch):
    monkeypatch.setattr(plot, "REFERENCE", tmp_path / "tracked")
    write_run(tmp_path / "tracked", "Adam", adams(10) * np.e, seeds=(0,))
    runs = tmp_path / "runs"
    own = write_run(runs, "Adam", adams(5) * np.e**2, seeds=(0,), overrides=["optimizer.lr=0.1"])
    distance = "rms log ratio to the paper's curve 2.0000, epochs 1 to 5; the tracked run of settings=paper: 1.0000"
    assert plot.compare(read(own)) == f"{own}: fig1_left Adam, settings=paper: {distance}"
    nadam = plot.compare(read(write_run(runs, "NAdam", [1.0, adams(2)[1] * 2], settings="defaults", seeds=(0,))))
    assert nadam.split("settings=defaults: ")[1].startswith(f"cost in epoch 2: {adams(2)[1] * 2:.4g}; at the last published epoch, ")
    assert "2 times Adam's" in nadam
    assert "rms log ratio to the paper's curve inf" in plot.compare(read(write_run(runs, "Adam", [*adams(5), np.nan], seeds=(0,))))
    write_sweep(tmp_path / "sweep", lambda loss, row: loss, epochs=(10,))
    assert "63 points" in plot.compare(read(tmp_path / "sweep/fig4/paper/Adam.csv"))
    for refused, words in (
        (write_run(runs, "Adam", adams(2), data="standin"), "cannot be compared: it was trained on stand-in data"),
        (write_run(runs, "Adam", adams(2), "fig1_right_no_dropout"), "the paper shows no curve of fig1_right_no_dropout"),
    ):
        with pytest.raises(RecordError, match=words):
            plot.compare(read(refused))


def test_compare_takes_files_folders_at_any_depth_or_all_runs(tmp_path, monkeypatch, capsys):
    def compared(*paths) -> list[str]:
        monkeypatch.setattr("sys.argv", ["plot", "--no-figures", *map(str, paths)])
        plot.main()
        return [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]

    first = write_run(tmp_path / "a folder", "Adam", adams(3))
    second = write_run(tmp_path / "a folder", "AdaGrad", adams(3), overrides=["epochs=3"])
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
def drawn(monkeypatch, tmp_path):
    """Draws runs to tmp_path/figures, over what is tracked in tmp_path/tracked; returns the figures, and the page's by their names."""
    figures, pages = [], []
    for module in (plot, charts):
        monkeypatch.setattr(module, "REFERENCE", tmp_path / "tracked")
    monkeypatch.setattr(plot, "interactive", lambda context, figures: pages.append((context, figures)) or "page")

    def call(*paths):
        with monkeypatch.context() as patch:
            patch.setattr(plt, "close", figures.append)
            patch.setattr("sys.argv", ["plot", *map(str, paths), "--out", str(tmp_path / "figures")])
            plot.main()
        return figures, {figure["id"]: figure for figure in pages[0][1]}

    yield call
    plt.close("all")


def test_any_setting_is_drawn_over_the_papers_curves_and_the_tracked_runs(tmp_path, drawn):
    write_run(tmp_path / "tracked", "Adam", adams(10))
    rows = [
        {"member": member, "seed": 0, "epoch": epoch, "cost": 1 / epoch, "lr": lr}
        for member, lr in enumerate((0.1, 0.2))
        for epoch in (1, 2)
    ]
    grid = write_table(tmp_path, "Adam", rows, 2, seeds=(0,), hyperparameters=["lr"], overrides=["optimizer.lr=[0.1,0.2]", "model.l2=0.5"])
    nadam = write_run(
        tmp_path, "NAdam", [0.6, 0.5, 0.4], settings="defaults", overrides=["optimizer._target_=torch.optim.NAdam", "epochs=3"]
    )
    (figure,), pages = drawn(grid, nadam)
    (axis,) = figure.axes
    assert (axis.get_xlim(), axis.get_ylim(), axis.get_xlabel()) == ((0, 45), (0.2, 0.7), "iterations over entire dataset")
    own = ["Adam, l2=0.5, lr=0.1", "Adam, l2=0.5, lr=0.2", "NAdam, defaults"]
    theirs = ["AdaGrad, the paper's", "SGDNesterov, the paper's"]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [*theirs, "Adam", *own, "the paper's curves"]
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert lines[own[1]].get_xydata().tolist() == [[0, 1], [1, 0.5]]
    assert len({lines[label].get_color() for label in ["Adam", *own]}) == 4
    view = pages["fig1_left"]["charts"][0]["views"]["paper"]
    assert [trace["y"] for trace in view["traces"] if trace["name"] == own[1] and trace["customdata"]] == [[1, 0.5]]
    assert {trace["name"] for trace in view["traces"]} == {"AdaGrad", "SGDNesterov", "Adam", *own}
    assert [row["series"] for row in view["distances"]] == ["Adam", *own[:2]]  # the paper has no NAdam
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"plot_fig1_left.png", "plot_fig1_left.svg", "plot.html"}


def test_figure_4_shows_losses_in_the_cells_of_their_betas_or_in_all(tmp_path, drawn):
    write_sweep(tmp_path / "tracked", lambda loss, row: loss, epochs=(10,))
    rows = [{"member": member, "seed": 0, "epoch": 10, "cost": 101.0 + member, "lr": lr} for member, lr in enumerate((1e-4, 1e-3))]
    facts = {"experiment": "fig4", "seeds": (0,), "hyperparameters": ["lr"]}
    adam = {"beta1": 0.9, "beta2": 0.999, "bias_correction": True}
    write_table(tmp_path / "own", "Adam", rows, 10, identity={"optimizer": adam}, overrides=["model.latents=20"], **facts)
    write_table(tmp_path / "own", "Lion", rows, 10, settings="defaults", identity={"optimizer": {}}, **facts)
    (figure,), pages = drawn(tmp_path / "own")
    thick = [
        [line.get_ydata().tolist() for line in axis.lines if line.get_linewidth() == 2.2 and len(line.get_xdata())] for axis in figure.axes
    ]
    assert thick == [[[101, 102]]] * 4 + [[[101, 102]] * 2] + [[[101, 102]]] + [[]] * 6  # Lion has no betas; nothing ran 100 epochs
    traces = pages["fig4"]["charts"][4]["views"]["10 epochs"]["traces"]
    assert [trace["y"] for trace in traces if trace["name"] in ("Adam, latents=20", "Lion, defaults")] == [[101, 102]] * 2


def test_the_page_shows_what_was_printed_and_escapes_it():
    chart = {"views": {"paper": {"traces": [], "distances": []}}, "title": "<b>", "layout": {}, "log": False, "range": (0, 1)}
    page = plot.interactive({"lines": ["<script>alert(1)</script>"]}, [charts.figure("fig1", "fig1: <i>", [chart])])
    assert html.escape("<script>alert(1)</script>") in page
    assert "<script>alert" not in page
    assert "<i>" not in page.partition("<script>")[0]
    assert 'id="claims"' not in page
