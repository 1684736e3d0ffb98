"""Measures how far runs are from the paper's curves, and where they end: agreement.csv, ranks.csv, passes_to_cost.csv and final_costs.csv.

The distance is the root mean square of ln(ours / paper) over the published vertices, with ours the geometric mean over seeds: 0.02
is about 2 %. Its interval is a bootstrap over seeds, its range that of single seeds. The wiggle is the standard deviation of a curve
around its trend, in the same units. Other readings of the published cost are measured too: with the penalty, and taken after the pass
with the noise off, both at the passes that were evaluated; and, where the published numbers themselves can be read in two ways, the second.

Given CSV files of runs, whatever they override, it prints each one's distance, and the tracked run's, instead.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, kendalltau

from curves import (
    BY_TIME,
    PANELS,
    REFERENCE,
    RESULTS,
    by_time,
    diverged,
    geometric_mean,
    log_ratios,
    other_reading,
    published,
    read_run,
    rms,
    runs,
    wiggle,
)

# Costs that each panel's optimizers pass at different times.
GOALS = {
    "fig1_left": (0.4, 0.3, 0.27),
    "fig1_right": (0.4, 0.3, 0.27),
    "fig2a": (0.1, 0.03, 0.015),
    "fig2b_top": (0.1, 0.01, 0.001),
    "fig3_right": (1.5, 1.0, 0.1, 0.01),
}
SHARES = (0.1, 0.5, 1.0)
EXPERIMENTS = sorted({experiment for experiments in PANELS.values() for experiment in experiments})


def agreement(table: pd.DataFrame, experiment: str, panel: str = "") -> list[dict]:
    """A line for each optimizer in the table that the paper shows for the experiment, in one of its panels."""
    lines = []
    paper, other = published(experiment, panel), other_reading(experiment)
    if panel == BY_TIME:
        table = _at_published_times(by_time(table), paper)
    for optimizer in sorted(set(table["optimizer"]) & set(paper["optimizer"]) if not table.empty else ()):
        ours, curve = table[table["optimizer"] == optimizer], paper[paper["optimizer"] == optimizer]
        by_seed = np.stack([log_ratios(member.set_index("x")["cost"], curve) for _, member in ours.groupby("member")])
        ratios = log_ratios(geometric_mean(ours), curve)
        if not len(ratios):  # a run of one pass, which some panels of the paper do not show
            continue
        other_ratios = log_ratios(geometric_mean(ours), other[other["optimizer"] == optimizer])
        evaluated = ours[ours["train_cost"].notna().groupby(ours["x"]).transform("any")]
        low, high = interval(by_seed)
        of_seeds = [rms(seed) for seed in by_seed]
        x, values = _plotted(ours, curve)
        lines.append(
            {
                "panel": panel or experiment,
                "series": curve["series"].iloc[0],
                "experiment": experiment,
                "optimizer": optimizer,
                "seeds": ours["seed"].nunique(),
                "diverged": diverged(ours),
                "passes": ours["pass"].max(),
                "points": len(ratios),
                "rms_log_ratio": rms(ratios),
                "interval_low": low,
                "interval_high": high,
                "lowest_of_a_seed": min(of_seeds),
                "highest_of_a_seed": max(of_seeds),
                "largest_log_ratio": np.abs(ratios).max(),
                "area": np.trapezoid(np.abs(np.expm1(ratios)) * values, x),
                "within_seeds": np.mean((by_seed.min(0) <= 0) & (by_seed.max(0) >= 0)) if len(by_seed) > 1 else np.nan,
                "evaluated_points": len(log_ratios(geometric_mean(evaluated), curve)),
                "rms_evaluated": rms(log_ratios(geometric_mean(evaluated), curve)),
                "rms_with_penalty": rms(log_ratios(geometric_mean(evaluated, evaluated["cost"] + evaluated["penalty"]), curve)),
                "rms_after_the_pass": rms(log_ratios(geometric_mean(evaluated, evaluated["train_cost"]), curve)),
                "rms_other_reading": rms(other_ratios),
                "wiggle": ours.groupby("member")["cost"].apply(wiggle).groupby(level=0).std().mean(),
                "published_wiggle": wiggle(curve[curve["kind"] == "plotted"].sort_values("x")["y"]).std(),
            }
        )
    return lines


def interval(by_seed: np.ndarray) -> tuple[float, float]:
    """The 95 % bootstrap interval of the distance, seeds drawn anew; not a number for a single seed or where one has diverged.

    Args:
        by_seed: log ratios, shape [seeds, points].
    """
    if len(by_seed) < 2 or not np.isfinite(by_seed).all():
        return np.nan, np.nan

    def distance(seeds: np.ndarray) -> float:
        return rms(by_seed[seeds].mean(0))

    indices = np.arange(len(by_seed))
    found = bootstrap((indices,), distance, vectorized=False, n_resamples=999, method="percentile", rng=np.random.default_rng(0))
    return tuple(found.confidence_interval)


def _plotted(ours: pd.DataFrame, curve: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Abscissae and published costs at which `log_ratios` compares."""
    plotted = curve[(curve["kind"] == "plotted") & curve["x"].isin(ours["x"])]
    return plotted["x"].to_numpy(), plotted["y"].to_numpy()


def _at_published_times(table: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """The runs of a table by time, with a row for each published abscissa that they reach: cost interpolated, no other measurement."""
    if table.empty:
        return table
    tables = []
    for (optimizer, _), member in table.groupby(["optimizer", "member"]):
        x = paper.loc[paper["optimizer"] == optimizer, "x"].to_numpy(float)
        x = x[x <= member["x"].max()]
        cost = np.exp(np.interp(x, member["x"], np.log(member["cost"])))
        one = member.iloc[[-1] * len(x)].assign(x=x, cost=cost)
        tables.append(one.assign(train_cost=np.nan, penalty=np.nan))
    return pd.concat(tables)


def in_panel(root: Path, panel: str, settings: str = "paper") -> Iterator[tuple[str, pd.DataFrame]]:
    """The experiments of a panel that have runs under `root`, with their tables."""
    for experiment in PANELS[panel]:
        if not (table := runs(root, experiment, settings)).empty:
            yield experiment, table


def costs_by_series(root: Path, panel: str, settings: str = "paper") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ours (mean over seeds) and the paper's costs of a panel: a column for each series that both have, a row for each x of ours."""
    ours, paper = {}, {}
    for experiment, table in in_panel(root, panel, settings):
        for optimizer, curve in published(experiment, panel).groupby("optimizer"):
            if optimizer in set(table["optimizer"]):
                name = curve["series"].iloc[0]
                ours[name], paper[name] = geometric_mean(table[table["optimizer"] == optimizer]), curve.set_index("x")["y"]
    ours = pd.DataFrame(ours)
    return ours, pd.DataFrame(paper).reindex(ours.index)


def ranks(root: Path) -> pd.DataFrame:
    """For each panel with two series or more: their order, lowest cost first, ours and the paper's, at SHARES of the passes that all have.

    Kendall's tau is 1 for the same order and -1 for the reverse.
    """
    lines = []
    for panel in PANELS:
        if panel in (BY_TIME, "fig3_left"):  # whose curves another panel has
            continue
        ours, paper = costs_by_series(root, panel)
        common = (ours.notna() & paper.notna()).all(axis=1)
        common = common.index[common]
        if ours.shape[1] < 2 or not len(common):
            continue
        for share in SHARES:
            x = common[common.get_indexer([share * common[-1]], method="nearest")[0]]
            lines.append(
                {
                    "panel": panel,
                    "share_of_passes": share,
                    "x": x,
                    "ours": " < ".join(ours.loc[x].sort_values().index),
                    "paper": " < ".join(paper.loc[x].sort_values().index),
                    "kendall_tau": kendalltau(ours.loc[x], paper.loc[x]).statistic,
                }
            )
    return pd.DataFrame(lines)


def passes_to_cost(root: Path) -> pd.DataFrame:
    """The first pass (1, 2, ...) with a cost no larger than each of GOALS, ours and the paper's; empty where it is not reached."""
    lines = []
    for panel, goals in GOALS.items():
        ours, paper = costs_by_series(root, panel)
        for series in ours:
            for goal in goals:
                first = [next((x + 1 for x, cost in costs[series].dropna().items() if cost <= goal), None) for costs in (ours, paper)]
                passes = ours[series].notna().sum()  # the paper's may reach it later than our run lasts
                lines.append({"panel": panel, "series": series, "cost": goal, "ours": first[0], "paper": first[1], "passes_run": passes})
    return pd.DataFrame(lines)


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


def compare(path: Path) -> str:
    """One sentence on the run whose CSV is at `path`: its distance to the paper's curve, and the tracked run's over the same passes.

    Raises:
        SystemExit: there is no complete run at the path.
    """
    table = read_run(path) if path.suffix == ".csv" and path.exists() else None
    if table is None:
        sys.exit(f"error: {path} is no complete run: give a CSV that run.py has written, with its .json beside it")
    if (table["data"] == "standin").any():
        return f"{path}: was trained on stand-in data, which the paper's curves say nothing of"
    experiment, optimizer, passes = table["experiment"].iloc[0], table["optimizer"].iloc[0], table["pass"].max()
    if experiment not in EXPERIMENTS:
        return f"{path}: the paper shows no lines of {experiment} (figure 4 has points: scripts/figure4.py compares with them)"
    lines = []
    for name, member in table.groupby("hyperparameters", sort=False):
        found = agreement(member, experiment)
        if not found:
            return f"{path}: the paper shows no curve of {optimizer} in {experiment}"
        lines.append(f"{name} {_distance(found[0])}".strip())
    text = f"{experiment} {optimizer}, passes 1 to {passes}: {'; '.join(lines)} from the paper's curve"
    tracked = runs(REFERENCE, experiment, "paper")
    tracked = tracked[(tracked["optimizer"] == optimizer) & (tracked["pass"] <= passes)] if not tracked.empty else tracked
    if tracked.empty:
        return text
    return f"{text}; tracked, settings=paper: {_distance(agreement(tracked, experiment)[0])}"


def _distance(line: dict) -> str:
    seeds = f"{line['seeds']} seed{'s' * (line['seeds'] > 1)}"
    other = "" if np.isnan(line["rms_other_reading"]) else f", {line['rms_other_reading']:.3f} in the second reading"
    return f"{line['rms_log_ratio']:.3f}{other} ({seeds})"


def main() -> None:
    """Measures the tracked runs, or somebody's own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="a folder of your own runs instead of the tracked ones; the tables go there")
    parser.add_argument("paths", nargs="*", type=Path, help="CSV files of runs, whose distances are printed and nothing else is done")
    arguments = parser.parse_args()
    if arguments.paths:
        for path in arguments.paths:
            print(compare(path))
        return
    root, folder = arguments.runs or REFERENCE, arguments.runs or RESULTS
    lines = [line for panel in PANELS for experiment, table in in_panel(root, panel) for line in agreement(table, experiment, panel)]
    if not lines:
        print("no runs on real data with settings=paper: nothing to compare with the paper")
        return
    table = pd.DataFrame(lines)
    table.to_csv(folder / "agreement.csv", index=False, float_format="%.4f")
    ranks(root).to_csv(folder / "ranks.csv", index=False, float_format="%.2f")
    passes_to_cost(root).to_csv(folder / "passes_to_cost.csv", index=False, float_format="%.4g")
    final_costs(root).to_csv(folder / "final_costs.csv", index=False, float_format="%.5f")
    print(table[["panel", "series", "seeds", "passes", "rms_log_ratio", "largest_log_ratio"]].to_string(index=False, float_format="%.4f"))


if __name__ == "__main__":
    main()
