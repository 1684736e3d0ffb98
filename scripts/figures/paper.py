"""The paper's own look: its published curves, and ours drawn in the same way, as two pictures to hold next to each other.

Layout and axes are the paper's. The colours of its figures 1 to 3 are not known: these are matplotlib's defaults of 2014, in the order of
the legend. In figure 4 red is with bias correction and green without, as its caption says. Ours are means over seeds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from experiments.records import display_path
from scripts.analysis import figure4
from scripts.analysis.published import Panel, panels, published
from scripts.analysis.runs import by_time, of_optimizer, read_runs
from scripts.figures.figure4 import draw_losses
from scripts.figures.panels import mean_over_seeds, save

COLOURS = "bgrcmyk"
# Panels by the files of their published curves.
LAYOUTS = {
    "fig1": [["fig1_left", "fig1_right"]],
    "fig2": [["fig2a", "fig2b_top"], ["fig2a", "fig2b_bottom"]],
    "fig3": [["fig3_left", "fig3_right"]],
}


def draw(name: str, root: Path, folder: Path) -> None:
    """Draws a figure to folder/name_paper_style.png and .svg: the paper's curves, and ours to their right; in figure 4 below them."""
    sweep = figure4.sweeps(root, "paper") if name == "fig4" else pd.DataFrame()
    runs = {panel.experiment: read_runs(root, panel.experiment, "paper") for panel in panels(name)} if name in LAYOUTS else {"": sweep}
    if all(table.empty for table in runs.values()):
        print(f"{name}: no finished runs of settings=paper without overrides in {display_path(root)}: nothing to draw")
        return
    figure = plt.figure(figsize=(17, 10) if name == "fig4" else (17, 4.5 * len(LAYOUTS[name])), layout="constrained")
    sides = figure.subfigures(2, 1) if name == "fig4" else figure.subfigures(1, 2)
    for side, title, ours in zip(cast(Sequence[SubFigure], sides), ("the paper", "ours"), (False, True), strict=True):
        side.suptitle(title, fontsize=14)
        if name == "fig4":
            _draw_sweeps(side, figure4.measured(sweep).query("optimizer == 'Adam'") if ours else figure4.published())
            continue
        for curves, axis in side.subplot_mosaic(LAYOUTS[name]).items():  # type: ignore[arg-type]  # lists are invariant
            shown = [panel for panel in panels(name) if panel.published == curves]
            _draw_lines(
                axis, shown, [runs[panel.experiment] if ours else published(panel).assign(cost=lambda t: t["y"]) for panel in shown]
            )
    save(figure, folder / f"{name}_paper_style")


def _draw_lines(axis: Axes, shown: list[Panel], tables: list[pd.DataFrame]) -> None:
    """Draws the series of one panel, which figure 3 shares between runs without and with dropout; mean over seeds."""
    panel = shown[0]
    axis.set_prop_cycle(color=COLOURS)
    for optimizer in panel.optimizers:
        for half, table in zip(shown, tables, strict=True):
            rows = of_optimizer(by_time(table) if panel.by_time and "seconds" in table else table, optimizer)
            mean = mean_over_seeds(rows, panel.log) if len(rows) else pd.Series(dtype=float)
            axis.plot(mean.index, mean, label=optimizer + half.suffix)
    axis.set(xlim=panel.x, ylim=panel.y, yscale="log" if panel.log else "linear", title=panel.title.partition(",")[0])
    axis.set(xlabel="normalized walltime" if panel.by_time else "iterations over entire dataset", ylabel="training cost")
    axis.legend(loc="upper right", fontsize=8)


def _draw_sweeps(side: SubFigure, losses: pd.DataFrame) -> None:
    """Draws figure 4's cells: after 10 epochs on the left and after 100 on the right, a row for each beta1, a column for each beta2."""
    columns = [(epochs, beta2) for epochs in figure4.EPOCHS.values() for beta2 in figure4.BETA2S]
    for row, beta1 in zip(side.subplots(2, len(columns), sharex=True, sharey=True), figure4.BETA1S, strict=True):
        row[0].set(ylabel=f"$\\beta_1$={beta1}\nloss")
        for axis, (epochs, beta2) in zip(row, columns, strict=True):
            cell = figure4.in_cell(losses, epochs, beta1, beta2)
            for corrected, colour in ((True, "r"), (False, "g")):
                draw_losses(axis, cell[cell["bias_correction"] == corrected], color=colour)
            axis.set(xlim=(-5, -1), ylim=figure4.LOSSES, xlabel="$\\log_{10}\\alpha$")
            axis.set_title(f"{epochs} epochs, $\\beta_2$={beta2}", fontsize=9)
            axis.label_outer()
