"""Draws runs over the paper's curves and the tracked runs, and prints distance and rank: `python -m scripts.plot [CSV or folder ...]`.

Takes any finished run on real data, including runs with overrides or with an optimizer that is not in the paper. Without arguments it
takes all of results/runs. Writes OUT/plot_EXPERIMENT.png and .svg, and OUT/plot.html, a self-contained interactive page.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from data.files import atomic_write
from experiments.errors import one_sentence_errors
from experiments.records import EXTENT, RecordError, Run, display_path, key_of
from scripts.analysis import figure4
from scripts.analysis.agreement import SHARES, agreement
from scripts.analysis.distances import geometric_mean
from scripts.analysis.published import Panel, main_panel, panels, paper_curves
from scripts.analysis.runs import REFERENCE, RUNS, of_optimizer, read_runs, short, shown_costs
from scripts.arguments import runs_in
from scripts.figures.figure4 import draw_sweeps
from scripts.figures.panels import Series, draw_panels
from scripts.report import charts
from scripts.report.__main__ import interactive

# Colours of your runs: black, then Tol's palette.
COLOURS = ("#000000", "#999933", "#661100", "#44AA99", "#882255", "#6699CC", "#AA4466")
TITLE = "thick: your runs; thin: the tracked runs\ndashed: the paper's curves"


def compare(run: Run) -> str:
    """Returns a line for each setting of a run: its distance from its optimizer's published curve, or else its cost against all curves.

    Raises:
        RecordError: the run was trained on stand-in data, or the paper shows no curve of its experiment.
    """
    name = f"{run}: {run.experiment} {run.optimizer}, settings={run.settings}"
    if run.data != "real":
        raise RecordError(f"{run} cannot be compared: it was trained on stand-in data")
    if run.experiment in figure4.EPOCHS:
        both = figure4.points(figure4.measured(figure4.rows_after(run, figure4.EPOCHS[run.experiment])), figure4.published())
        return f"{name}: {figure4.summary(both)}" if len(both) else f"{name}: no member has the settings of a published point"
    panel = main_panel(run.experiment)
    if panel is None:
        raise RecordError(f"{run} cannot be compared: the paper shows no curve of {run.experiment}")
    return "\n".join(
        f"{', '.join([name, *values])}: {_distance(rows, panel)}{_rank(rows, panel, run.optimizer)}"
        for values, rows in _members(shown_costs(run), run.hyperparameters)
    )


def _members(table: pd.DataFrame, keys: list[str]) -> list[tuple[list[str], pd.DataFrame]]:
    """Returns the rows of each setting of a population, with its `key=value`."""
    groups = table.groupby(keys, sort=False) if keys else [((), table)]
    return [([f"{key}={value}" for key, value in zip(keys, values, strict=True)], rows) for values, rows in groups]


def _distance(table: pd.DataFrame, panel: Panel) -> str:
    """Returns how far the costs of one setting are from the panel's curves, in words."""
    epochs = table["epoch"].max()
    if found := agreement(table, panel):
        tracked = of_optimizer(read_runs(REFERENCE, panel.experiment, "paper"), found[0]["optimizer"])
        tracked = agreement(tracked[tracked["epoch"] <= epochs], panel) if not tracked.empty else []
        beside = f"; the tracked run of settings=paper: {tracked[0]['rms_log_ratio']:.4f}" if tracked else ""
        return f"rms log ratio to the paper's curve {found[0]['rms_log_ratio']:.4f}, epochs 1 to {epochs}{beside}"
    ours, leads = geometric_mean(table), []
    for optimizer, curve in paper_curves(panel).groupby("optimizer"):
        paper = curve.set_index("x")["y"]
        common = paper.index.intersection(ours.index)
        if len(common):
            leads.append(f"{ours[common[-1]] / paper[common[-1]]:.3g} times {optimizer}'s")
    return f"cost in epoch {epochs}: {ours.iloc[-1]:.4g}; at the last published epoch, {' and '.join(leads) or 'none'}, in the paper"


def _rank(table: pd.DataFrame, panel: Panel, optimizer: str) -> str:
    """Returns the rank of one setting among the panel's other tracked optimizers, at SHARES of its epochs, in words."""
    tracked = of_optimizer(read_runs(REFERENCE, panel.experiment, "paper"), *{*panel.optimizers} - {optimizer})
    if tracked.empty:
        return ""
    ours, others = geometric_mean(table), [geometric_mean(run) for _, run in tracked.groupby("optimizer")]
    places = []
    for share in SHARES:
        x = ours.index[max(round(share * len(ours)) - 1, 0)]
        costs = [other[x] for other in others if x in other.index]
        places.append(f"{1 + sum(cost < ours[x] for cost in costs)} of {1 + len(costs)} in epoch {x + 1}")
    return f"; rank among the panel's tracked optimizers: {', '.join(places)}"


def series(run: Run) -> list[tuple[str, pd.DataFrame]]:
    """Returns a label and the rows of each setting of a run: for figure 4, whose x axis is the learning rate, as from `measured`."""
    given = [(short(key_of(override)), override.partition("=")[2]) for override in run.overrides]
    shared = [f"{key}={value}" for key, value in given if key not in (*run.hyperparameters, *EXTENT, "_target_")]
    shared = [run.optimizer, *[run.settings] * (run.settings != "paper"), *shared]
    if run.experiment not in figure4.EPOCHS:
        return [(", ".join([*shared, *values]), rows) for values, rows in _members(shown_costs(run), run.hyperparameters)]
    rows = figure4.rows_after(run, figure4.EPOCHS[run.experiment])
    members = _members(rows, [key for key in run.hyperparameters if key not in figure4.DRAWN])
    return [(", ".join([*shared, *values]), figure4.measured(rows)) for values, rows in members]


def draw(runs: Sequence[Run], lines: Sequence[str], folder: Path) -> None:
    """Draws runs to folder/plot_EXPERIMENT.png and .svg, and to folder/plot.html, with the printed lines."""
    by_figure: dict[str, list[Series]] = {}
    for run in runs:
        own = by_figure.setdefault("fig4" if run.experiment in figure4.EPOCHS else run.experiment, [])
        for label, rows in series(run):
            own.append(Series(label, COLOURS[len(own) % len(COLOURS)], rows))
    figures = []
    for name, own in by_figure.items():
        stem, title = folder / f"plot_{name}", f"{name}: your runs"
        if name == "fig4":
            draw_sweeps(figure4.measured(figure4.sweeps(REFERENCE, "paper")), TITLE, stem, own)
            figures.append(charts.figure(name, title, charts.sweep_charts(own)))
            continue
        shown = [panel for panel in panels() if panel.experiment == name and not panel.by_time]  # time depends on the machine
        draw_panels(shown, [read_runs(REFERENCE, name, "paper")] * len(shown), TITLE, stem, own=own)
        figures.append(charts.figure(name, title, [charts.panel_chart(panel, own) for panel in shown]))
    with atomic_write(folder / "plot.html") as part:
        part.write_text(interactive({"lines": lines}, figures))
    print(f"wrote {display_path(folder / 'plot.html')}")


def main() -> None:
    """Prints a line for each setting of the runs named on the command line, and draws them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, default=[RUNS], help="CSV files of runs, or folders; default: results/runs")
    parser.add_argument("--out", type=Path, default=RUNS / "figures", help="where figures go; default: results/runs/figures")
    parser.add_argument("--no-figures", action="store_true", help="print only")
    with one_sentence_errors():
        arguments, runs, lines = parser.parse_args(), [], []
        for path in arguments.paths:
            found = [run for run in runs_in(path) if not path.is_dir() or _is_comparable(run)]
            if not found:
                raise RecordError(f"{display_path(path)}: no run there can be compared with the paper")
            runs += found
            lines += [line for run in found for line in compare(run).splitlines()]
        print(*lines, sep="\n")
        if not arguments.no_figures:
            draw(runs, lines, arguments.out)


def _is_comparable(run: Run) -> bool:
    return run.data == "real" and (main_panel(run.experiment) is not None or run.experiment in figure4.EPOCHS)


if __name__ == "__main__":
    main()
