"""Sums up grids: one line for each member with its final training cost and its distance to the published curve.

Reads the runs of `settings=grid` and `settings=grid_l2`, writes results/tuning/<experiment>.csv and prints, for each optimizer,
the members that come closest to the paper and those that end lowest. The experiment files take their `paper` and `best`
settings from there.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from curves import RESULTS, RUNS, log_ratios, provenance, published, read_run, rms, wiggle

COLUMNS = (
    "experiment",
    "optimizer",
    "settings",
    "schedule",
    "features",
    "hyperparameters",
    "seed",
    "rms_log_ratio",
    "largest_log_ratio",
    "wiggle",
    "cost",
    "train_cost",
    "objective",
)


def summarise(path: Path) -> pd.DataFrame:
    """One line per member of the grid whose CSV is at `path`; costs are those of the last pass.

    The objective is what the optimizer minimises: cost with the noise on, plus penalty. The wiggle is the standard deviation
    of the cost from pass to pass around its trend, relative to the cost.
    """
    table, config = read_run(path), provenance(path)["config"]
    paper = published(config["experiment"])
    paper = paper[paper["optimizer"] == table["optimizer"].iloc[0]]
    lines = []
    for _, member in table.groupby("member"):
        ratios = log_ratios(member.set_index("x")["cost"], paper)
        last = member.iloc[-1]
        lines.append(
            {
                "experiment": config["experiment"],
                "optimizer": last["optimizer"],
                "settings": last["settings"],
                "schedule": config["schedule"],
                "features": config["data"].get("features", ""),
                "hyperparameters": last["hyperparameters"],
                "seed": last["seed"],
                "rms_log_ratio": rms(ratios) if len(ratios) else np.nan,
                "largest_log_ratio": np.abs(ratios).max() if len(ratios) else np.nan,
                "wiggle": wiggle(member["cost"]).std(),
                "cost": last["cost"],
                "train_cost": last["train_cost"],
                "objective": last["cost"] + last["penalty"],
            }
        )
    return pd.DataFrame(lines, columns=COLUMNS)


def main() -> None:
    """Writes the table of each experiment named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="+")
    for experiment in parser.parse_args().experiments:
        paths = [path for path in sorted((RUNS / experiment).glob("grid*/*.csv")) if path.with_suffix(".json").exists()]
        if not paths:
            parser.error(f"there are no finished grids of {experiment}: run make tune-fig1")
        table = pd.concat([summarise(path) for path in paths])
        out = RESULTS / "tuning" / f"{experiment}.csv"
        table.to_csv(out, index=False, float_format="%.6g")
        print(f"wrote {out}")
        for optimizer, lines in table.groupby("optimizer"):
            for criterion, found in (("rms_log_ratio", lines), ("objective", lines[lines["settings"] == "grid"])):
                best = found.sort_values(criterion).head(3).drop(columns=["experiment", "optimizer", "seed"])
                print(f"\n{optimizer}: lowest {criterion}\n{best.to_string(index=False)}")


if __name__ == "__main__":
    main()
