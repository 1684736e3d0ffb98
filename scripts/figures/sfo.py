"""Draws section 6.2's claims on SFO that have no figure: its costs with dropout, and its memory by the number of minibatches."""

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from scripts.analysis.runs import of_optimizer, read_runs, sfo_memory
from scripts.figures import panels


def draw_sfo(root: Path, stem: Path) -> None:
    """Draws the costs and the memory of SFO and Adam, with and without dropout on all images, if there are runs of SFO with dropout.

    `root` is the folder of the runs, `stem` the path of the figure without suffix.
    """
    without, dropout = (read_runs(root, *where) for where in (("fig2b", "all_images"), ("fig2a", "paper")))
    if dropout.empty or "SFO" not in set(dropout["optimizer"]):
        return
    figure, (costs, bytes_) = plt.subplots(1, 2, figsize=(12.8, 4.8), layout="constrained")
    for table, style, name in ((without, "-", ""), (dropout, "--", " with dropout")):
        for optimizer in ("SFO", "Adam"):
            if table.empty:
                continue
            ours = panels.mean_over_seeds(table[table["optimizer"] == optimizer], log=True)
            costs.plot(ours.index, ours, style, color=panels.COLOURS[optimizer], label=optimizer + name)
    epochs = dropout.loc[dropout["optimizer"] == "SFO", "x"].max()
    costs.set(
        xlim=(0, epochs),
        yscale="log",
        xlabel="iterations over entire dataset",
        ylabel="training cost",
        title="All images; without dropout: He's initial weights, L2",
    )
    costs.legend(fontsize=8)
    sfo, adam = (of_optimizer(sfo_memory(), optimizer) for optimizer in ("SFO", "Adam"))
    bytes_.plot(sfo["minibatches"], sfo["bytes"] / 2**20, "o", color=panels.COLOURS["SFO"], label="SFO")
    slope, constant = np.polyfit(sfo["minibatches"].astype(float), sfo["bytes"] / 2**20, 1)
    line = np.array([0, sfo["minibatches"].max()])
    per_minibatch = slope * 2**20 / 4 / sfo["parameters"].iloc[0]
    label = f"{per_minibatch:.1f} numbers for each parameter and minibatch"
    bytes_.plot(line, constant + slope * line, color=panels.COLOURS["SFO"], linewidth=0.8, label=label)
    bytes_.axhline(adam["bytes"].iloc[0] / 2**20, color=panels.COLOURS["Adam"], label="Adam")
    bytes_.set(
        xlabel="minibatches",
        ylabel="memory, MiB",
        title=f"Memory, {sfo['parameters'].iloc[0] / 1e6:.1f} million parameters",
        ylim=(0, None),
    )
    bytes_.legend(fontsize=8)
    for axis in (costs, bytes_):
        axis.grid(alpha=0.3)
    panels.save(figure, stem)
