"""Measures how far runs are from the paper's curves, and where they end: results/agreement.csv and results/final_costs.csv.

The distance is the root mean square of ln(ours / paper) over the published vertices, with ours the geometric mean over seeds: 0.02
is about 2 %. Its range is that of single seeds. The wiggle is the standard deviation of a curve around its trend, in the same units.
Other readings of the published cost are measured too: with the penalty, and taken after the pass with the noise off, both at the passes
that were evaluated; and, where the published numbers themselves can be read in two ways, the second.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from curves import REFERENCE, RESULTS, diverged, log_ratios, other_reading, published, rms, runs, wiggle

EXPERIMENTS = ("fig1_left", "fig1_right", "fig2a", "fig2b", "fig3", "fig3_dropout")


def agreement(table: pd.DataFrame, experiment: str) -> list[dict]:
    """A line for each optimizer in the table that the paper shows, in the panel `experiment`."""
    lines = []
    paper, other = published(experiment), other_reading(experiment)
    for optimizer in sorted(set(table["optimizer"]) & set(paper["optimizer"])):
        ours, curve = table[table["optimizer"] == optimizer], paper[paper["optimizer"] == optimizer]
        by_seed = [rms(log_ratios(member.set_index("x")["cost"], curve)) for _, member in ours.groupby("member")]
        ratios = log_ratios(_mean_over_seeds(ours, ours["cost"]), curve)
        if not len(ratios):  # a run of one pass, which some panels of the paper do not show
            continue
        other_ratios = log_ratios(_mean_over_seeds(ours, ours["cost"]), other[other["optimizer"] == optimizer])
        evaluated = ours[ours["train_cost"].notna().groupby(ours["x"]).transform("any")]
        lines.append(
            {
                "experiment": experiment,
                "optimizer": optimizer,
                "seeds": ours["seed"].nunique(),
                "diverged": diverged(ours),
                "points": len(ratios),
                "rms_log_ratio": rms(ratios),
                "lowest_of_a_seed": min(by_seed),
                "highest_of_a_seed": max(by_seed),
                "largest_log_ratio": np.abs(ratios).max(),
                "rms_with_penalty": rms(log_ratios(_mean_over_seeds(evaluated, evaluated["cost"] + evaluated["penalty"]), curve)),
                "rms_after_the_pass": rms(log_ratios(_mean_over_seeds(evaluated, evaluated["train_cost"]), curve)),
                "rms_other_reading": rms(other_ratios) if len(other_ratios) else np.nan,
                "wiggle": ours.groupby("member")["cost"].apply(wiggle).groupby(level=0).std().mean(),
                "published_wiggle": wiggle(curve[curve["kind"] == "plotted"].sort_values("x")["y"]).std(),
            }
        )
    return lines


def _mean_over_seeds(ours: pd.DataFrame, costs: pd.Series) -> pd.Series:
    """The geometric mean by abscissa; not a number where a seed has diverged."""
    return np.exp(np.log(costs).groupby(ours["x"].to_numpy()).agg(lambda at_x: at_x.mean(skipna=False)))


def final_costs(root: Path) -> pd.DataFrame:
    """A line for each run under `root`: mean and standard deviation over seeds of what was measured after the last pass."""
    lines = []
    for experiment, settings in sorted({(path.parent.parent.name, path.parent.name) for path in root.glob("*/*/*.csv")}):
        table = runs(root, experiment, settings)
        for optimizer, ours in table.groupby("optimizer") if not table.empty else ():
            if ours["hyperparameters"].nunique() > 1:  # a sweep: its members are no seeds of one setting
                continue
            last = ours[ours["pass"] == ours["pass"].max()]
            line = {
                "experiment": experiment,
                "settings": settings,
                "optimizer": optimizer,
                "seeds": len(last),
                "passes": last["pass"].max(),
            }
            for name in ("cost", "train_cost", "test_cost", "test_error"):
                line |= {name: last[name].mean(skipna=False), f"{name}_sd": last[name].std()}
            lines.append(line)
    return pd.DataFrame(lines)


def main() -> None:
    """Measures the tracked runs, or somebody's own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="a folder of your own runs instead of the tracked ones")
    own = parser.parse_args().runs  # whose tables go there too
    tables = {experiment: runs(own or REFERENCE, experiment, "paper") for experiment in EXPERIMENTS}
    lines = [line for experiment, table in tables.items() if not table.empty for line in agreement(table, experiment)]
    if not lines:
        print("no runs on real data with settings=paper: nothing to compare with the paper")
        return
    table = pd.DataFrame(lines)
    table.to_csv((own or RESULTS) / "agreement.csv", index=False, float_format="%.4f")
    final_costs(own or REFERENCE).to_csv((own or RESULTS) / "final_costs.csv", index=False, float_format="%.5f")
    print(table.to_string(index=False, float_format="%.4f"))


if __name__ == "__main__":
    main()
