"""What is drawn: the paper's layout, its curves, ours, and labels that say what was not run or not real."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from made_up import write_run, write_sweep, write_table
from scripts.analysis import figure4
from scripts.analysis.published import panels, published
from scripts.figures import __main__ as program
from scripts.figures import moments, paper, sensitivity, sfo
from scripts.figures.panels import draw


@pytest.fixture
def drawn(monkeypatch):
    """Keeps every figure that is drawn, to look into."""
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    yield figures
    monkeypatch.undo()
    plt.close("all")


def labels_of(axis) -> list[str]:
    return [text.get_text() for text in axis.get_legend().get_texts()]


def lines_of(axis) -> dict:
    return {line.get_label(): line for line in axis.get_lines()}


def test_figure_3_has_the_papers_panels_for_each_half_and_the_second_moments_of_adam(tmp_path, drawn):
    values = {"vhat_hidden": 1e-12, "below_eps_hidden": 0.25, "vhat_scores": 1e-9, "below_eps_scores": 0.0}
    for experiment in moments.EXPERIMENTS:
        write_run(tmp_path, "Adam", [2.0, 1.0, 0.5], experiment, columns=values, overrides=["epochs=3"])
    program.fig3(tmp_path, tmp_path / "figures")
    ((first, whole), (first_dropout, _)) = np.reshape(drawn[0].axes, (2, 2))
    assert (first.get_xlim(), first.get_ylim(), first.get_yscale()) == ((0, 3), (0.5, 3), "linear")
    assert (whole.get_xlim(), whole.get_ylim(), whole.get_yscale()) == ((0, 45), (1e-4, 300), "log")
    papers = [line.get_ydata()[1] for line in first_dropout.get_lines() if line.get_linestyle() == "--" and len(line.get_xdata())]
    assert sorted(papers) == pytest.approx([1.24095, 1.7223, 1.72811], abs=1e-7)
    medians, shares = drawn[1].axes
    expected = [f"{layer}, {dropout}" for dropout in ("no dropout", "dropout") for layer in ("hidden", "scores")]
    assert [line.get_label() for line in shares.get_lines()] == expected
    assert {line.get_ydata()[0] for line in medians.get_lines()} == {1e-12, 1e-9}


def test_the_sensitivity_to_the_step_size_has_a_panel_for_each_grid_and_the_lowest_cost_of_each_step_size(tmp_path, drawn):
    rows = [("grid", 11, "0.1", "0.9", 0.3), ("grid", 11, "0.1", "0.99", 0.2), ("grid", 11, "0.2", "0.9", 0.4),
            ("grid_annealed", 41, "0.2", None, 0.1), ("grid_annealed", 41, "0.4", None, 0.15),
            ("search", 11, "0.1", None, 0.01)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["settings", "epochs", "lr", "rho", "objective"]).assign(optimizer="Adam")
    sensitivity.draw({"fig2a": table}, tmp_path / "sensitivity")
    plain, annealed = drawn[0].axes
    assert (plain.get_title(), annealed.get_title()) == ("fig2a, after 11 epochs, 1 seed", "fig2a annealed, after 41 epochs, 1 seed")
    assert plain.get_lines()[0].get_xydata().tolist() == [[0.1, 0.2], [0.2, 0.4]]
    assert annealed.get_lines()[0].get_xydata().tolist() == [[0.2, 0.1], [0.4, 0.15]]


def test_the_figure_lays_ours_over_the_papers_curves(tmp_path, monkeypatch, drawn):
    write_run(tmp_path / "own", "Adam", np.linspace(0.65, 0.25, 46))
    monkeypatch.setattr("sys.argv", ["figures", "--runs", str(tmp_path / "own"), "fig1"])
    program.main()
    left, right = drawn[0].axes
    assert {path.name for path in (tmp_path / "own" / "figures").iterdir()} == {"fig1.png", "fig1.svg"}
    assert (left.get_xlim(), left.get_ylim(), left.get_title()) == ((0, 45), (0.2, 0.7), "MNIST Logistic Regression")
    assert (left.get_xlabel(), left.get_ylabel()) == ("iterations over entire dataset", "training cost")
    assert labels_of(left) == ["AdaGrad, the paper's", "SGDNesterov, the paper's", "Adam", "the paper's curves"]
    np.testing.assert_allclose(lines_of(left)["Adam"].get_ydata(), np.linspace(0.65, 0.25, 46) * 1.005)  # the mean of two seeds
    adagrads = (published("fig1_left")["optimizer"] == "AdaGrad").sum()
    assert sum(len(line.get_xdata()) == adagrads for line in left.get_lines()) == 1
    assert "not run yet" in [text.get_text() for text in right.texts]


def test_the_tracked_figure_has_the_papers_order_and_marks_what_the_paper_has_not(tmp_path, drawn):
    for optimizer in ("AdaMax", "Adam", "SGDNesterov", "AdaGrad"):
        write_run(tmp_path, optimizer, [0.5, 0.4])
    program.fig1(tmp_path, tmp_path / "figures")
    (figure,) = drawn  # there are no runs of settings=best
    assert labels_of(figure.axes[0]) == ["AdaGrad", "SGDNesterov", "Adam", "AdaMax (the paper has no curve)", "the paper's curves"]


def test_the_papers_style_draws_the_published_curves_and_ours_in_the_same_way(tmp_path, monkeypatch, drawn):
    for experiment, costs in (("fig3", [2.0, 1.0]), ("fig3_dropout", [2.1, 1.1])):
        write_run(tmp_path, "Adam", costs, experiment, seeds=(0,), columns={"penalty": 0.0})
    monkeypatch.setattr("sys.argv", ["figures", "--style", "paper", "--runs", str(tmp_path), "fig3"])
    program.main()
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"fig3_paper_style.png", "fig3_paper_style.svg"}
    first, whole, our_first, our_whole = drawn[0].axes
    for theirs, ours in ((first, our_first), (whole, our_whole)):
        looks = [(axis.get_xlim(), axis.get_ylim(), axis.get_yscale(), axis.get_title(), axis.get_xlabel()) for axis in (theirs, ours)]
        assert looks[0] == looks[1]
        styles = [[(line.get_label(), line.get_color(), line.get_linestyle()) for line in axis.get_lines()] for axis in (theirs, ours)]
        assert styles[0] == styles[1]
    assert labels_of(first) == [name + half for name in ("AdaGrad", "SGDNesterov", "Adam") for half in ("", "+dropout")]
    assert lines_of(first)["Adam+dropout"].get_ydata()[1] == pytest.approx(1.24095, abs=5e-6)
    assert lines_of(our_first)["Adam+dropout"].get_ydata().tolist() == [2.1, 1.1]
    assert not len(lines_of(our_first)["AdaGrad"].get_xdata())  # not run, and keeps its colour


def test_the_papers_style_of_figure_4_has_the_cells_of_both_numbers_of_epochs(tmp_path, drawn):
    write_sweep(tmp_path, lambda loss, row: loss, epochs=(10,))
    paper.draw("fig4", tmp_path, tmp_path / "figures")
    axes = np.reshape(drawn[0].axes, (2, 2, 6))
    titles = [f"{epochs} epochs, $\\beta_2$={beta2}" for epochs in (10, 100) for beta2 in (0.99, 0.999, 0.9999)]
    assert [axis.get_title() for axis in axes[1, 1]] == titles
    theirs, ours = (axes[half, 1, 1].lines for half in (0, 1))
    assert [line.get_color() for line in ours[::2]] == [line.get_color() for line in theirs[::2]] == ["r", "g"]
    np.testing.assert_allclose(ours[0].get_ydata(), theirs[0].get_ydata())
    assert not len(axes[1, 1, 4].lines[0].get_xdata())  # 100 epochs were not run


def test_a_standin_figure_says_so_and_shows_nothing_of_the_paper(tmp_path, drawn):
    write_run(tmp_path, "Adam", [0.5, 0.4], data="standin")
    draw("fig1", panels("fig1"), "paper", tmp_path, tmp_path)
    left = drawn[0].axes[0]
    assert "STAND-IN DATA" in [text.get_text() for text in left.texts]
    assert [len(line.get_xdata()) for line in left.get_lines()] == [2]
    first = (tmp_path / "fig1_standin.svg").read_bytes()
    draw("fig1", panels("fig1"), "paper", tmp_path, tmp_path)
    assert (tmp_path / "fig1_standin.svg").read_bytes() == first  # the same results give the same file


def test_a_name_that_is_no_figure_and_folders_without_runs_are_answered(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["figures", "fig9"])
    with pytest.raises(SystemExit, match="error: fig9 is not a figure: choose from fig1, fig2"):
        program.main()
    monkeypatch.setattr("sys.argv", ["figures", "--runs", str(tmp_path)])
    with pytest.raises(SystemExit, match="error: .* has no finished run: give a CSV"):
        program.main()
    assert not list(tmp_path.iterdir())
    write_run(tmp_path, "Adam", [0.5], experiment="elsewhere")
    program.main()
    assert capsys.readouterr().out.count("nothing to draw") == 11


@pytest.mark.parametrize("log", [False, True])
def test_a_seed_that_diverged_is_named_and_ends_the_mean_with_a_cross(tmp_path, drawn, log):
    def costs(seed: int) -> np.ndarray:
        return np.where((np.arange(46) == 20) & (seed == 1), np.nan, np.linspace(0.7, 0.3, 46))

    rows = [{"member": seed, "seed": seed, "epoch": x + 1, "cost": cost} for seed in (0, 1) for x, cost in enumerate(costs(seed))]
    write_table(tmp_path, "Adam", rows, 46)
    draw("fig1", (dataclasses.replace(panels("fig1")[0], log=log),), "paper", tmp_path, tmp_path)
    axis = drawn[0].axes[0]
    assert "Adam, 1 of 2 diverged" in labels_of(axis)
    (cross,) = [line for line in axis.get_lines() if line.get_marker() == "x"]
    assert lines_of(axis)["Adam, 1 of 2 diverged"].get_xdata()[-1] == cross.get_xdata()[0] == 19  # the last epoch in which both have a cost


def test_a_seed_that_diverges_at_once_is_named_in_the_legend_and_has_no_line(tmp_path, drawn):
    write_run(tmp_path, "Adam", [np.nan, np.nan])
    draw("fig1", panels("fig1"), "paper", tmp_path, tmp_path)
    assert "Adam, 2 of 2 diverged" in labels_of(drawn[0].axes[0])


def test_figure_4_has_the_papers_layout(tmp_path, drawn):
    write_sweep(tmp_path, lambda loss, row: loss, epochs=(10,))
    program.fig4(tmp_path, tmp_path / "figures")
    (figure,) = drawn
    assert [axis.get_title() for axis in figure.axes] == [f"Adam, $\\beta_2$={beta2}" for beta2 in (0.99, 0.999, 0.9999)] * 4
    rows = [axis.get_ylabel().partition("\n")[0] for axis in figure.axes[::3]]
    assert rows == [f"{epochs} epochs, $\\beta_1$={beta1}" for epochs in (10, 100) for beta1 in (0.0, 0.9)]
    cell = figure.axes[4]  # beta1 = 0.9, beta2 = 0.999, after 10 epochs
    black, ours = cell.lines[0], cell.lines[2]
    np.testing.assert_allclose(ours.get_ydata(), black.get_ydata())
    assert -3 in np.round(ours.get_xdata(), 6)
    assert (tmp_path / "figures" / "fig4.png").exists()


def test_figure_4_on_stand_in_data_is_labelled(tmp_path, drawn):
    write_sweep(tmp_path, lambda loss, row: loss, data="standin", epochs=(10,))
    program.fig4(tmp_path, tmp_path / "figures")
    assert "STAND-IN" in drawn[0].get_suptitle()
    assert (tmp_path / "figures" / "fig4_standin.png").exists()
    assert figure4.sweeps(tmp_path, "paper").empty  # which tables are about


def write_race(root) -> None:
    """Adam takes 2 s for an epoch and SFO 10; SFO starts later and ends lower."""
    write_run(root, "Adam", [0.2, 0.05, 0.02], "fig2b", seeds=(0,), seconds=[2.0, 4.0, 6.0])
    write_run(root, "SFO", [2.0, 0.09, 0.0009], "fig2b", seeds=(0,), seconds=[10.0, 20.0, 30.0])


def test_figure_2_shows_both_abscissae_and_adams_curve_as_plotted_and_rescaled(tmp_path, drawn):
    write_race(tmp_path)
    program.fig2(tmp_path, tmp_path / "figures")
    by_epoch, by_time = drawn[0].axes[1:]
    ours = lines_of(by_time)
    assert ours["SFO"].get_xdata().tolist() == [0, 5, 10]  # in epochs of Adam, the first point at 0
    assert ours["Adam"].get_xdata().tolist() == [0, 1, 2]
    assert lines_of(by_epoch)["SFO"].get_xdata().tolist() == [0, 1, 2]
    dotted = [line for line in by_epoch.lines if line.get_linestyle() == ":" and line.get_color() == "black"]
    assert any(np.isclose(line.get_ydata(), 0.00024).any() for line in dotted)  # the published 0.000006 times 41.4
    published_sfo = [line for line in by_time.lines if len(line.get_xdata()) == 24]
    assert any(line.get_xdata()[1] == 5 for line in published_sfo)


def test_sfo_is_shown_with_dropout_and_its_memory_by_the_number_of_minibatches(tmp_path, monkeypatch, drawn):
    write_race(tmp_path)
    sizes = {"optimizer": ["Adam", "SFO", "SFO"], "minibatches": [None, 10, 20], "parameters": 1000, "bytes": [8000, 130_000, 250_000]}
    monkeypatch.setattr(sfo, "sfo_memory", lambda: pd.DataFrame(sizes))
    sfo.draw_sfo(tmp_path, tmp_path / "fig2_sfo")
    assert not drawn  # no run with dropout
    write_run(tmp_path, "SFO", [2.0, 1.5, 1.8], experiment="fig2a", seeds=(0,))
    for optimizer in ("Adam", "SFO"):
        write_run(tmp_path, optimizer, [1.0, 0.5, 0.2], experiment="fig2b", settings="all_images", seeds=(0,))
    sfo.draw_sfo(tmp_path, tmp_path / "fig2_sfo")
    costs, memory = drawn[0].axes
    found = lines_of(costs)
    np.testing.assert_allclose(found["SFO with dropout"].get_ydata(), [2.0, 1.5, 1.8])
    np.testing.assert_allclose(found["SFO"].get_ydata(), [1.0, 0.5, 0.2])  # as many images as with dropout
    assert {"SFO", "Adam"} < set(found)
    assert "3.0 numbers for each parameter and minibatch" in [line.get_label() for line in memory.lines]  # 12,000 bytes for 1000 x 4


def test_a_figure_is_whole_or_not_there(tmp_path, monkeypatch):
    write_run(tmp_path, "Adam", [0.5, 0.4])
    monkeypatch.setattr(plt.Figure, "savefig", lambda self, path, **_: path.write_bytes(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        draw("fig1", panels("fig1"), "paper", tmp_path, tmp_path / "figures")
    assert not list((tmp_path / "figures").iterdir())
    plt.close("all")
