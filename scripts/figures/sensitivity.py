"""Draws the final cost over the learning rate, from the tuning tables."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter

from scripts.analysis.runs import REFERENCE, configuration
from scripts.figures import panels

# Settings with grids of learning rates, and suffixes of their panels' titles.
GRIDS = {"grid": "", "grid_annealed": " annealed"}
# Costs above this multiple of the median are not drawn.
TOO_HIGH = 3


def draw(tables: dict[str, pd.DataFrame], stem: Path) -> None:
    """Draws a panel per grid of the tuning tables (by experiment) to stem.png and stem.svg.

    A panel shows each optimizer's lowest final cost over its other settings, on the features that the experiment uses.
    """
    grids = {(panel, grid): table[table["settings"] == grid] for panel, table in tables.items() for grid in GRIDS}
    grids = {name: members for name, members in grids.items() if len(members)}
    rows = -(-len(grids) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(12.8, 4.4 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(grids) :]:
        axis.remove()
    for axis, ((panel, grid), table) in zip(axes.flat, grids.items(), strict=False):
        given = table.reindex(columns=["lr", "features"])
        same_data = given["features"].isna() | (given["features"] == configuration(REFERENCE, panel, "Adam").get("features"))
        table = table.assign(lr=given["lr"].astype(float))[same_data].dropna(subset="lr")
        for optimizer, ours in table.groupby("optimizer"):
            lowest = ours.groupby("lr")["objective"].min()
            lowest = lowest[lowest < TOO_HIGH * table["objective"].median()]
            axis.plot(lowest.index, lowest, marker=".", color=panels.COLOURS[optimizer], label=optimizer)
        title = f"{panel}{GRIDS[grid]}, after {table['epochs'].max()} epochs, 1 seed"
        axis.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="training cost with the penalty", title=title)
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    panels.save(figure, stem)
