"""Draws figure 2: the multilayer network on MNIST, with dropout (a) and without, where Adam runs against SFO (b), by passes and by time.

The published abscissa of the last panel is the number of passes, times 5 for SFO; ours is measured. From pass 8 on, the published
values of Adam in (b) are 2.3 (x - 7) times smaller than a smooth continuation would have them: dotted, they are multiplied by that.
Beside the figures folder goes fig2b_race.csv: what a pass costs, and how soon costs are reached.
"""

import argparse
from pathlib import Path

import pandas as pd

import plots
from curves import REFERENCE, RESULTS, runs

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

    Where a cost is not reached within the run, the cell is empty.
    """
    lines = []
    for optimizer, ours in table.groupby("optimizer"):
        mean = ours.groupby("pass")[["cost", "seconds"]].mean()
        line = {"optimizer": optimizer, "seeds": ours["seed"].nunique(), "passes": mean.index[-1]}
        line["seconds_of_a_pass"] = mean["seconds"].iloc[-1] / mean.index[-1]
        for goal in GOALS:
            there = mean[mean["cost"] <= goal]
            line |= {f"passes_to_{goal}": there.index[0] if len(there) else None}
            line |= {f"seconds_to_{goal}": there["seconds"].iloc[0] if len(there) else None}
        lines.append(line)
    found = pd.DataFrame(lines)
    adam = found.loc[found["optimizer"] == "Adam", "seconds_of_a_pass"]
    found.insert(4, "times_adam", found["seconds_of_a_pass"] / adam.iloc[0] if len(adam) else None)
    return found


def main() -> None:
    """Draws the figure for each of the settings that has runs, and writes the race of the paper's settings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="a folder of your own runs, drawn over the tracked ones; figure and table go there too")
    own = parser.parse_args().runs
    for settings in ("paper", "best", "quick"):
        plots.draw("fig2", PANELS, settings, REFERENCE, own)
    table = runs(own or REFERENCE, "fig2b", "paper")
    if not table.empty:
        race(table).to_csv((own or RESULTS) / "fig2b_race.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
