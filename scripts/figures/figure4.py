"""Draws figure 4, the loss of a variational autoencoder over the learning rate, with the paper's points.

Rows are values of beta1, columns values of beta2: first after 10 epochs (fig4; left in the paper), then after 100 (fig4_100; right). Our
addition follows: AdaMax and RMSProp with momentum after 10 epochs. A published loss of 400 means divergence.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from experiments.records import display_path
from scripts.analysis.figure4 import BETA1S, BETA2S, DIVERGED, EPOCHS, LOSSES, in_cell, measured, published, sweeps
from scripts.figures import panels

COLOURS = {True: "#D55E00", False: "#009E73"}
COLOURS_ALONE = {("AdaMax", True): panels.COLOURS["AdaMax"], ("AdaMax", False): "#882255", ("RMSProp", False): panels.COLOURS["RMSProp"]}


def draw_losses(axis: Axes, losses: pd.DataFrame, **style) -> None:
    """Draws one line over log10(alpha), with crosses at the upper edge for divergence."""
    losses = losses.groupby("alpha")["loss"].mean().replace(np.inf, DIVERGED)
    axis.plot(np.log10(losses.index), losses, **style)
    lost = losses.index[losses >= DIVERGED]
    cross = {"linestyle": "", "marker": "x", "color": style["color"], "clip_on": False, "in_layout": False}
    axis.plot(np.log10(lost), np.full(len(lost), LOSSES[1]), **cross)


def draw_panel(axis: Axes, ours: pd.DataFrame, paper: pd.DataFrame) -> None:
    """Draws one cell of betas and epochs: ours in colour, the paper's points in black."""
    for corrected, colour in COLOURS.items():
        black = {"color": "black", "marker": "o", "fillstyle": "full" if corrected else "none", "markersize": 3}
        draw_losses(axis, paper[paper["bias_correction"] == corrected], **black, linewidth=0.6, linestyle="--")
        draw_losses(axis, ours[ours["bias_correction"] == corrected], color=colour, linewidth=1.6, marker=".")


def draw_ours_alone(axis: Axes, ours: pd.DataFrame, optimizer: str, beta2: float) -> None:
    """Draws AdaMax or RMSProp, which the paper does not show, for one beta2; Adam's corrected line in grey for comparison."""
    cell = ours[(ours["beta2"] == beta2) & (ours["epochs"] == 10)]
    adam = cell[(cell["optimizer"] == "Adam") & cell["bias_correction"] & (cell["beta1"] == 0.9)]
    draw_losses(axis, adam, color="grey", linewidth=4, alpha=0.4)
    cell = cell[cell["optimizer"] == optimizer]
    for (beta1, corrected), line in cell.groupby(["beta1", "bias_correction"]):
        draw_losses(axis, line, color=COLOURS_ALONE[optimizer, corrected], linewidth=1.6, marker=".", linestyle="-" if beta1 else ":")
    letter = r"$\rho$" if optimizer == "RMSProp" else r"$\beta_2$"
    axis.set_title(f"{optimizer}, {letter}={beta2}", fontsize=9)


def draw_sweeps(ours: pd.DataFrame, title: str, stem: Path, own: Sequence[panels.Series] = ()) -> None:
    """Draws all panels to stem.png and stem.svg; further runs, `own`, thick in the cells of their betas."""
    paper = published()
    others = [optimizer for optimizer in ("AdaMax", "RMSProp") if (ours["optimizer"] == optimizer).any()]
    rows = [(epochs, beta1) for epochs in EPOCHS.values() for beta1 in BETA1S]
    size = (8.4, 1 + 2.2 * (len(rows) + len(others)))  # legible when shown 700 pixels wide
    figure, axes = plt.subplots(len(rows) + len(others), 3, figsize=size, sharex=True, sharey=True, layout="constrained")
    adam = ours[ours["optimizer"] == "Adam"]
    for row, (epochs, beta1) in zip(axes, rows, strict=False):
        row[0].set_ylabel(f"{epochs} epochs, $\\beta_1$={beta1}\nloss, nats per image")
        for axis, beta2 in zip(row, BETA2S, strict=True):
            cell = [in_cell(table, epochs, beta1, beta2) for table in (adam, paper)]
            draw_panel(axis, *cell)
            for series in own:
                draw_losses(axis, in_cell(series.rows, epochs, beta1, beta2), color=series.colour, linewidth=2.2, marker=".")
            axis.set_title(f"Adam, $\\beta_2$={beta2}", fontsize=9)
            if cell[0].empty:
                axis.text(-3, 132, "not run", ha="center", fontsize=9)
    for row, optimizer in zip(axes[len(rows) :], others, strict=True):
        row[0].set_ylabel("10 epochs, not in the paper\nloss, nats per image")
        for axis, beta2 in zip(row, BETA2S, strict=True):
            draw_ours_alone(axis, ours, optimizer, beta2)
    for axis in axes.flat:
        axis.set(xlim=(-5, -1), ylim=LOSSES)
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("$\\log_{10}\\alpha$")
    handles = [plt.Line2D([], [], color=COLOURS[corrected]) for corrected in (True, False)]
    handles += [plt.Line2D([], [], color="black", marker="o", fillstyle=style, linestyle="--") for style in ("full", "none")]
    handles += [plt.Line2D([], [], color="black", marker="x", linestyle="")]
    labels = ["Adam, bias corrected", "Adam, not corrected", "the paper's, corrected", "the paper's, not corrected", "diverged"]
    handles += [plt.Line2D([], [], color=series.colour, linewidth=2.2) for series in own]
    labels += [series.label for series in own]
    if others:
        handles += [plt.Line2D([], [], color=colour) for colour in COLOURS_ALONE.values()]
        handles += [plt.Line2D([], [], color="black", linestyle=":"), plt.Line2D([], [], color="grey", linewidth=4, alpha=0.4)]
        labels += ["AdaMax, corrected", "AdaMax, not corrected", "RMSProp", "AdaMax with $\\beta_1$=0", "Adam, $\\beta_1$=0.9, corrected"]
    figure.legend(handles, labels, ncols=3, loc="outside lower center", fontsize=9)
    figure.suptitle(title, fontsize=9)
    panels.save(figure, stem)


def draw(root: Path, settings: str, folder: Path) -> None:
    """Draws the runs with these settings, on real data or, failing that, on stand-in data, to folder/fig4[_SETTINGS].png and .svg."""
    for data in ("real", "standin"):
        table = sweeps(root, settings, data)
        if table.empty:
            continue
        seeds = table["seed"].nunique()
        title = f"{seeds} seed{'s' * (seeds > 1)}{'; STAND-IN DATA' * (data == 'standin')}"
        if settings == "quick":
            title += "; fewer images: not to be compared with the paper's points"
        suffix = f"_{settings}" * (settings != "paper") + "_standin" * (data == "standin")
        draw_sweeps(measured(table), title, folder / f"fig4{suffix}")
        return
    print(f"fig4: no finished run of settings={settings} without overrides in {display_path(root)}: nothing to draw")
