"""Draws figure 2: the multilayer network on MNIST, with dropout (a) and without, where Adam runs against SFO (b), by passes and by time.

The published abscissa of the last panel is the number of passes, times 5 for SFO; ours is measured. From pass 8 on, the published
values of Adam in (b) are 2.3 (x - 7) times smaller than a smooth continuation would have them: dotted, they are multiplied by that.
Beside the figures folder goes fig2b_race.csv: what a pass costs, and how soon costs are reached. A second figure, fig2_sfo, shows what
section 6.2 says of SFO without a figure: how it fares with dropout, and how its memory grows with the number of minibatches.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

import plots
from curves import REFERENCE, RESULTS, geometric_mean, runs

OPTIMIZERS = ("AdaGrad", "RMSProp", "SGDNesterov", "AdaDelta", "Adam")
RACE = {"log": True, "costs": (1e-6, 10)}
PANELS = (
    plots.Panel("fig2a", "MNIST Multilayer Neural Network + dropout", OPTIMIZERS, (0, 200), (3e-3, 0.2), log=True),
    plots.Panel("fig2b", "MNIST Multilayer Neural Network", ("SFO", "Adam"), (0, 25), **RACE),
    plots.Panel("fig2b", "the same by time", ("SFO", "Adam"), (0, 100), **RACE, published="fig2b_bottom", by_time=True),
)
GOALS = (0.1, 0.01, 0.001)


def race(table: pd.DataFrame) -> pd.DataFrame:
    """A line for each optimizer of figure 2b: seconds of a pass, also in passes of Adam, and passes and seconds until costs are reached.

    Seconds are those of one seed, costs geometric means over seeds. Where a cost is not reached within the run, the cell is empty.
    """
    lines = []
    for optimizer, ours in table.groupby("optimizer"):
        by_pass = ours.groupby("pass")
        mean = pd.DataFrame({"cost": geometric_mean(ours).to_numpy(), "seconds": by_pass["seconds"].mean()})
        line = {"optimizer": optimizer, "seeds": ours["seed"].nunique(), "passes": mean.index[-1]}
        line["seconds_of_a_pass"] = mean["seconds"].iloc[-1] / mean.index[-1]
        for goal in GOALS:
            there = mean[mean["cost"] <= goal]
            line |= {f"passes_to_{goal}": there.index[0] if len(there) else np.nan}
            line |= {f"seconds_to_{goal}": there["seconds"].iloc[0] if len(there) else np.nan}
        lines.append(line)
    found = pd.DataFrame(lines)
    adam = found.loc[found["optimizer"] == "Adam", "seconds_of_a_pass"]
    found.insert(4, "passes_of_adam", found["seconds_of_a_pass"] / adam.iloc[0] if len(adam) else np.nan)
    return found


def all_races(root: Path) -> pd.DataFrame:
    """The race of each of the settings of figure 2b that has runs under `root`, all on one machine; empty where there are none."""
    tables = {settings: runs(root, "fig2b", settings) for settings in ("paper", "best", "all_images", "quick")}
    races = {settings: race(table) for settings, table in tables.items() if not table.empty and table["machine"].nunique() == 1}
    return pd.concat(races, names=["settings"]).reset_index("settings") if races else pd.DataFrame()


def draw_sfo(root: Path, memory: pd.DataFrame, stem: Path) -> None:
    """Draws SFO with and without dropout beside Adam, on all images, and the memory they take, if there are such runs.

    Args:
        root: the folder of runs.
        memory: what scripts/bench_sfo.py has measured.
        stem: of the figure's files.
    """
    without, dropout = (runs(root, *where) for where in (("fig2b", "all_images"), ("fig2a", "paper")))
    if dropout.empty or "SFO" not in set(dropout["optimizer"]):
        return
    figure, (costs, bytes_) = plt.subplots(1, 2, figsize=(12.8, 4.8), layout="constrained")
    for table, style, name in ((without, "-", ""), (dropout, "--", " with dropout")):
        for optimizer in ("SFO", "Adam"):
            if table.empty:
                continue
            ours = plots.mean_over_seeds(table[table["optimizer"] == optimizer], log=True)
            costs.plot(ours.index, ours, style, color=plots.COLOURS[optimizer], label=optimizer + name)
    passes = dropout.loc[dropout["optimizer"] == "SFO", "x"].max()
    costs.set(
        xlim=(0, passes),
        yscale="log",
        xlabel="iterations over entire dataset",
        ylabel="training cost",
        title="All images; without dropout: He's initial weights, L2",
    )
    costs.legend(fontsize=8)
    sfo, adam = (memory[memory["optimizer"] == optimizer] for optimizer in ("SFO", "Adam"))
    bytes_.plot(sfo["minibatches"], sfo["bytes"] / 2**20, "o", color=plots.COLOURS["SFO"], label="SFO")
    slope, constant = np.polyfit(sfo["minibatches"].astype(float), sfo["bytes"] / 2**20, 1)
    line = np.array([0, sfo["minibatches"].max()])
    per_minibatch = slope * 2**20 / 4 / sfo["parameters"].iloc[0]
    label = f"{per_minibatch:.1f} numbers for each parameter and minibatch"
    bytes_.plot(line, constant + slope * line, color=plots.COLOURS["SFO"], linewidth=0.8, label=label)
    bytes_.axhline(adam["bytes"].iloc[0] / 2**20, color=plots.COLOURS["Adam"], label="Adam")
    bytes_.set(
        xlabel="minibatches",
        ylabel="memory, MiB",
        title=f"Memory, {sfo['parameters'].iloc[0] / 1e6:.1f} million parameters",
        ylim=(0, None),
    )
    bytes_.legend(fontsize=8)
    for axis in (costs, bytes_):
        axis.grid(alpha=0.3)
    plots.save(figure, stem)


def main() -> None:
    """Draws the figure for each of the settings that has runs, and writes the race of figure 2b."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="a folder of your own runs, drawn over the tracked ones; figure and table go there too")
    own = parser.parse_args().runs
    for settings in ("paper", "best", "quick"):
        plots.draw("fig2", PANELS, settings, REFERENCE, own)
    plots.draw("fig2", PANELS[1:], "all_images", REFERENCE, own)
    draw_sfo(own or REFERENCE, pd.read_csv(RESULTS / "sfo_memory.csv"), (own or RESULTS) / "figures" / "fig2_sfo")
    races = all_races(own or REFERENCE)
    if not races.empty:
        races.to_csv((own or RESULTS) / "fig2b_race.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
