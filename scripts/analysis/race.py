"""The race of Adam and SFO in figure 2b: seconds per epoch, and time to reach costs."""

from pathlib import Path

import numpy as np
import pandas as pd

from scripts.analysis.distances import geometric_mean
from scripts.analysis.runs import read_runs

GOALS = (0.1, 0.01, 0.001)


def race(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per optimizer of figure 2b: seconds per epoch, that over Adam's, and epochs and seconds to each of GOALS.

    The runs are from one machine. Seconds are per seed, costs geometric means over seeds. A goal that the run does not reach is NaN.
    """
    lines = []
    for optimizer, ours in table.groupby("optimizer"):
        mean = pd.DataFrame({"cost": geometric_mean(ours).to_numpy(), "seconds": ours.groupby("epoch")["seconds"].mean()})
        line = {"optimizer": optimizer, "seeds": ours["seed"].nunique(), "epochs": mean.index[-1]}
        line["seconds_of_an_epoch"] = mean["seconds"].iloc[-1] / mean.index[-1]
        for goal in GOALS:
            there = mean[mean["cost"] <= goal]
            line |= {f"epochs_to_{goal}": there.index[0] if len(there) else np.nan}
            line |= {f"seconds_to_{goal}": there["seconds"].iloc[0] if len(there) else np.nan}
        lines.append(line)
    found = pd.DataFrame(lines)
    adam = found.loc[found["optimizer"] == "Adam", "seconds_of_an_epoch"]
    found.insert(4, "epochs_of_adam", found["seconds_of_an_epoch"] / adam.iloc[0] if len(adam) else np.nan)
    return found


def races(root: Path) -> pd.DataFrame:
    """Returns the race for each of figure 2b's settings with runs that all trained on one machine; empty if there are none."""
    tables = {settings: read_runs(root, "fig2b", settings) for settings in ("paper", "best", "all_images", "quick")}
    found = {settings: race(table) for settings, table in tables.items() if not table.empty and table["machine"].nunique() == 1}
    return pd.concat(found, names=["settings"]).reset_index("settings") if found else pd.DataFrame()
