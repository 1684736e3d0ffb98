"""Draws the line figures in the paper's layout: our mean and range over seeds; published curves dashed, in a darker shade."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from data.files import atomic_write
from experiments.records import display_path
from scripts.analysis.distances import geometric_mean
from scripts.analysis.published import Panel, published, rescaled
from scripts.analysis.runs import by_time, diverged, of_optimizer, read_runs

# One colour per optimizer in all figures (Okabe & Ito's palette for colour-blind readers).
COLOURS = {
    "AdaGrad": "#0072B2",
    "RMSProp": "#E69F00",
    "SGDNesterov": "#009E73",
    "AdaDelta": "#56B4E9",
    "Adam": "#D55E00",
    "AdaMax": "#CC79A7",
    "SFO": "#332288",
}
# The settings in a figure's title.
SETTINGS = {
    "paper": "learning rates inferred from the paper's curves",
    "best": "tuned learning rates: the best of each optimizer's own grid",
    "all_images": "all 60,000 images",
    "quick": "a quick run: fewer images and epochs",
}


class Series(NamedTuple):
    """A run of your own with one setting; `rows` are from `shown_costs`, or for figure 4 from `figure4.measured`."""

    label: str
    colour: str
    rows: pd.DataFrame


def draw(name: str, panels: tuple[Panel, ...], settings: str, root: Path, folder: Path, columns: int = 0) -> None:
    """Draws the canonical runs of the panels to folder/name.png and .svg, if there are any.

    Panels go from left to right and row after row, `columns` per row (0: all). Settings other than `paper` are added to the name. Runs on
    stand-in data are drawn, labelled and without the published curves, if there are none on real data.
    """
    tables = [_real_or_standin(root, panel.experiment, settings) for panel in panels]
    if all(table.empty for table in tables):
        print(f"{name}: no finished runs of settings={settings} without overrides in {display_path(root)}: nothing to draw")
        return
    dashed = "" if all(_is_standin(table) for table in tables) else "; dashed: the paper's curve"
    title = f"{SETTINGS.get(settings, settings)}\nsolid: ours, mean and range over seeds{dashed}"
    stem = name if settings == "paper" else f"{name}_{settings}"
    draw_panels(panels, tables, title, folder / (stem + "_standin" * any(_is_standin(table) for table in tables)), columns)


def draw_panels(
    panels: Sequence[Panel], tables: Sequence[pd.DataFrame], title: str, stem: Path, columns: int = 0, own: Sequence[Series] = ()
) -> None:
    """Draws panels with the runs of each to stem.png and stem.svg, and `own` runs thick in every panel; `columns` as in `draw`."""
    columns = columns or len(panels)
    rows = -(-len(panels) // columns)
    # Small, so that text can be read where the picture is 700 pixels wide.
    width, height = (6.0, 4.2 * rows) if columns == 1 else (4.2 * columns, 4.4 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=(width, height + 0.15 * len(own)), layout="constrained", squeeze=False)
    for axis, panel, table in zip(axes.flat, panels, tables, strict=True):
        _draw_panel(axis, panel, table, own)
    figure.suptitle(title, fontsize=10)
    save(figure, stem)


def _real_or_standin(root: Path, experiment: str, settings: str) -> pd.DataFrame:
    """Returns the runs of an experiment: those on real data, or, where there are none, on stand-in data."""
    real = read_runs(root, experiment, settings)
    return read_runs(root, experiment, settings, "standin") if real.empty else real


def save(figure: plt.Figure, stem: Path) -> None:
    """Writes the figure to stem.png and stem.svg, reproducibly."""
    plt.rcParams["svg.hashsalt"] = "adam"
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
        with atomic_write(Path(f"{stem}{suffix}")) as part:
            figure.savefig(part, dpi=130, metadata=metadata)
    print(f"drew {display_path(stem)}.png and .svg")
    plt.close(figure)


def _is_standin(table: pd.DataFrame) -> bool:
    return not table.empty and (table["data"] == "standin").any()


def mean_over_seeds(table: pd.DataFrame, log: bool) -> pd.Series:
    """Returns the mean cost by `x`, geometric for a logarithmic axis, up to the first divergence of a seed."""
    mean = geometric_mean(table) if log else table.groupby("x")["cost"].mean()
    return mean[np.isfinite(mean)]


def _darker(colour: str) -> tuple[float, ...]:
    """Returns the colour of the paper's curve, visible on top of ours."""
    return tuple(0.65 * part for part in to_rgb(colour))


def _draw_series(axis: Axes, ours: pd.DataFrame, log: bool, label: str, colour: str, **style) -> None:
    """Draws the mean over seeds, their range, and a cross where the first of them diverged."""
    mean = mean_over_seeds(ours, log)
    band = ours.groupby("x")["cost"].agg(["min", "max"]).loc[mean.index]
    if lost := diverged(ours):
        label += f", {lost} of {ours['member'].nunique()} diverged"
        axis.plot(mean.index[-1:], mean.iloc[-1:], "x", color=colour)
    axis.plot(mean.index, mean, color=colour, label=label, **{"linewidth": 1.4, "zorder": 3, **style})
    axis.fill_between(mean.index, band["min"], band["max"], color=colour, alpha=0.2, linewidth=0, zorder=2)


def _draw_panel(axis: Axes, panel: Panel, table: pd.DataFrame, own: Sequence[Series]) -> None:
    standin, paper, other = _is_standin(table), published(panel), rescaled(panel.experiment)
    table = by_time(table) if panel.by_time else table
    for optimizer in (*panel.optimizers, "AdaMax"):
        ours, colour, theirs = of_optimizer(table, optimizer), COLOURS[optimizer], optimizer in panel.optimizers
        if not standin:
            curve, label = of_optimizer(paper, optimizer), f"{optimizer}, the paper's" if theirs and ours.empty else None
            axis.plot(curve["x"], curve["y"], color=_darker(colour), label=label, linewidth=1.1, linestyle=(0, (4, 2)), zorder=4)
        if not ours.empty:
            label = optimizer + (panel.suffix if theirs else " (the paper has no curve)")
            _draw_series(axis, ours, panel.log, label, colour, linestyle="-" if theirs else ":")
    for series in own:
        _draw_series(axis, series.rows, panel.log, series.label, series.colour, linewidth=2.2, zorder=5)
    if own:
        table = pd.concat([table, *(series.rows for series in own)])
    if not standin:
        axis.plot(other["x"], other["y"], color="black", linewidth=0.8, linestyle=":", zorder=2)
    abscissa = "training time, in epochs of Adam" if panel.by_time else "iterations over entire dataset"
    axis.set_title(panel.title, fontsize=11)
    axis.set(xlim=panel.x, xlabel=abscissa, ylabel="training cost", yscale="log" if panel.log else "linear")
    if not standin:
        axis.set_ylim(panel.y)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    if table.empty:
        axis.text(0.5, 0.5, "not run yet", transform=axis.transAxes, ha="center")
        return
    end, last = table["x"].max(), panel.x[1] if standin else min(panel.x[1], paper["x"].max())
    if end < last and not panel.by_time:
        axis.axvspan(end, panel.x[1], color="grey", alpha=0.1, linewidth=0, zorder=0)
        fewest, most = (f(table.groupby("optimizer")["epoch"].max()) for f in (min, max))
        epochs = f"{most}" if fewest == most else f"{fewest} to {most}"
        axis.text(0.98, 0.03, f"grey: not run; ours are the first {epochs} epochs", transform=axis.transAxes, ha="right", fontsize=8)
    if standin:
        axis.text(0.5, 0.5, "STAND-IN DATA", transform=axis.transAxes, ha="center", fontsize=24, color="red", alpha=0.4, rotation=20)
    handles, labels = axis.get_legend_handles_labels()
    if not standin:
        handles += axis.plot([], [], color="black", linewidth=0.8, linestyle=(0, (4, 2)))
        labels.append("the paper's curves")
        if not other.empty:
            handles += axis.plot([], [], color="black", linewidth=0.8, linestyle=":")
            labels.append("the paper's Adam, rescaled from x = 8 on")
    axis.legend(handles, labels, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, columnspacing=1, frameon=False)
