"""Prints how far runs are from the paper's curves: `python -m scripts.compare [CSV or folder ...]`.

Compares any finished run on real data, including runs with overrides or with optimizers that the paper does not show. The default is
results/runs.
"""

import argparse
from pathlib import Path

import pandas as pd

from experiments.records import RecordError, Run, display_path
from scripts.analysis import figure4
from scripts.analysis.agreement import SHARES, agreement
from scripts.analysis.distances import geometric_mean
from scripts.analysis.published import Panel, main_panel, paper_curves
from scripts.analysis.runs import REFERENCE, RUNS, of_optimizer, read_runs
from scripts.arguments import one_sentence_errors, runs_in


def compare(run: Run) -> str:
    """Returns a line per setting of a run: its distance to its optimizer's published curve, or, if there is none, its cost.

    Raises:
        RecordError: the run used stand-in data, or an experiment that the paper does not show.
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
    table = run.table()
    members = table.groupby(run.hyperparameters, sort=False) if run.hyperparameters else [((), table)]
    lines = []
    for values, rows in members:
        given = ", ".join(f"{key}={value}" for key, value in zip(run.hyperparameters, values, strict=True))
        lines.append(f"{name}{f', {given}' if given else ''}: {_distance(rows, panel)}{_rank(rows, panel, run.optimizer)}")
    return "\n".join(lines)


def _distance(table: pd.DataFrame, panel: Panel) -> str:
    """Returns in words how far the costs of one setting are from the panel's curves."""
    passes = table["pass"].max()
    if found := agreement(table, panel):
        tracked = of_optimizer(read_runs(REFERENCE, panel.experiment, "paper"), found[0]["optimizer"])
        tracked = agreement(tracked[tracked["pass"] <= passes], panel) if not tracked.empty else []
        beside = f"; the tracked run of settings=paper: {tracked[0]['rms_log_ratio']:.4f}" if tracked else ""
        return f"rms log ratio to the paper's curve {found[0]['rms_log_ratio']:.4f}, epochs 1 to {passes}{beside}"
    ours, leads = geometric_mean(table), []
    for optimizer, curve in paper_curves(panel).groupby("optimizer"):
        paper = curve.set_index("x")["y"]
        common = paper.index.intersection(ours.index)
        if len(common):
            leads.append(f"{ours[common[-1]] / paper[common[-1]]:.3g} times {optimizer}'s")
    return f"cost in epoch {passes}: {ours.iloc[-1]:.4g}; at the last published epoch, {' and '.join(leads) or 'none'}, in the paper"


def _rank(table: pd.DataFrame, panel: Panel, optimizer: str) -> str:
    """Returns in words the rank of one setting among the panel's other tracked optimizers, at SHARES of its epochs."""
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


def main() -> None:
    """Prints the comparison of each run named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("paths", nargs="*", type=Path, default=[RUNS], help="CSV files of runs, or folders; default: results/runs")
    with one_sentence_errors():
        for path in parser.parse_args().paths:
            runs = [run for run in runs_in(path) if not path.is_dir() or _is_comparable(run)]
            if not runs:
                raise RecordError(f"{display_path(path)}: no run there can be compared with the paper")
            for run in runs:
                print(compare(run))


def _is_comparable(run: Run) -> bool:
    return run.data == "real" and (main_panel(run.experiment) is not None or run.experiment in figure4.EPOCHS)


if __name__ == "__main__":
    main()
