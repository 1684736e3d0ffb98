"""Measures how far runs are from the paper's curves, and where they end: agreement.csv, ranks.csv, passes_to_cost.csv and final_costs.csv.

The distance is the root mean square of ln(ours / paper) over the published vertices, with ours the geometric mean over seeds: 0.02
is about 2 %. Its interval is a bootstrap over seeds, its range that of single seeds. The wiggle is the standard deviation of a curve
around its trend, in the same units. Other readings of the published cost are measured too: with the penalty, and taken after the pass
with the noise off, both at the passes that were evaluated; and, where the published numbers themselves can be read in two ways, as they
are plotted: everything else takes them in the second.

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
    as_read,
    by_time,
    chosen,
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
    "fig1_left": (0.5, 0.3, 0.27),
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
    paper, plotted = as_read(experiment, panel), published(experiment, panel)
    plotted = plotted[plotted["optimizer"].isin(other_reading(experiment)["optimizer"])]
    if panel == BY_TIME:
        table = _at_published_times(by_time(table), paper)
    for optimizer in sorted(set(table["optimizer"]) & set(paper["optimizer"]) if not table.empty else ()):
        ours, curve = table[table["optimizer"] == optimizer], paper[paper["optimizer"] == optimizer]
        by_seed = np.stack([log_ratios(member.set_index("x")["cost"], curve) for _, member in ours.groupby("member")])
        mean = geometric_mean(ours)
        ratios = log_ratios(mean, curve)
        if not len(ratios):  # a run of one pass, which some panels of the paper do not show
            continue
        evaluated = ours[ours["train_cost"].notna().groupby(ours["x"]).transform("any")]
        during = log_ratios(geometric_mean(evaluated), curve)
        low, high = interval(by_seed)
        of_seeds = [rms(seed) for seed in by_seed]
        shown = curve[(curve["kind"] == "plotted") & curve["x"].isin(mean.index)]
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
                "area": np.trapezoid(np.abs(np.expm1(ratios)) * shown["y"], shown["x"]),
                "within_seeds": np.mean((by_seed.min(0) <= 0) & (by_seed.max(0) >= 0)) if len(by_seed) > 1 else np.nan,
                "evaluated_points": len(during),
                "rms_evaluated": rms(during),
                "rms_with_penalty": rms(log_ratios(geometric_mean(evaluated, evaluated["cost"] + evaluated["penalty"]), curve)),
                "rms_after_the_pass": rms(log_ratios(geometric_mean(evaluated, evaluated["train_cost"]), curve)),
                "rms_as_plotted": rms(log_ratios(mean, plotted[plotted["optimizer"] == optimizer])),
                "wiggle": ours.groupby("member")["cost"].apply(wiggle).groupby(level=0).std().mean(),
                "published_wiggle": wiggle(curve[curve["kind"] == "plotted"].sort_values("x")["y"]).std(),
            }
        )
    return lines


def interval(by_seed: np.ndarray) -> tuple[float, float]:
    """The 95 % bootstrap interval (BCa) of the distance, seeds drawn anew: a rough one, for five seeds are few.

    Not a number for a single seed or where one has diverged, whose distance is infinite.

    Args:
        by_seed: log ratios, shape [seeds, points].
    """
    if len(by_seed) < 2 or not np.isfinite(by_seed).all():
        return np.nan, np.nan

    def distance(seeds: np.ndarray) -> float:
        return rms(by_seed[seeds].mean(0))

    indices = np.arange(len(by_seed))
    found = bootstrap((indices,), distance, vectorized=False, n_resamples=999, method="BCa", rng=np.random.default_rng(0))
    return tuple(found.confidence_interval)


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


def in_panel(root: Path, panel: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The experiments of a panel that have runs of the paper's settings under `root`, with their tables."""
    for experiment in PANELS[panel]:
        if not (table := runs(root, experiment, "paper")).empty:
            yield experiment, table


def costs_by_series(root: Path, panel: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ours (mean over seeds) and the paper's costs of a panel: a column for each series that both have, a row for each x."""
    ours, paper = {}, {}
    for experiment, table in in_panel(root, panel):
        for optimizer, curve in as_read(experiment, panel).groupby("optimizer"):
            if optimizer in set(table["optimizer"]):
                name = curve["series"].iloc[0]
                ours[name], paper[name] = geometric_mean(table[table["optimizer"] == optimizer]), curve.set_index("x")["y"]
    return pd.DataFrame(ours), pd.DataFrame(paper)


def ranks(root: Path) -> pd.DataFrame:
    """For each panel with two series or more: their order, lowest cost first, ours and the paper's, at SHARES of the passes that all have.

    Kendall's tau is 1 for the same order and -1 for the reverse. Where the paper's curve has a gap, the pass is the next that all have.
    """
    lines = []
    for panel in PANELS:
        if panel in (BY_TIME, "fig3_left"):  # whose curves another panel has
            continue
        ours, paper = costs_by_series(root, panel)
        common = ours.dropna().index.intersection(paper.dropna().index)
        if ours.shape[1] < 2 or not len(common):
            continue
        passes = common[-1] + 1
        for share in SHARES:
            if share * passes < 1:
                continue
            x = common[common.searchsorted(round(share * passes) - 1)]
            lines.append(
                {
                    "panel": panel,
                    "share_of_passes": share,
                    "pass": x + 1,
                    "ours": " < ".join(ours.loc[x].sort_values().index),
                    "paper": " < ".join(paper.loc[x].sort_values().index),
                    "kendall_tau": kendalltau(ours.loc[x], paper.loc[x]).statistic,
                }
            )
    return pd.DataFrame(lines, columns=["panel", "share_of_passes", "pass", "ours", "paper", "kendall_tau"])


def passes_to_cost(root: Path) -> pd.DataFrame:
    """The first pass (1, 2, ...) with a cost no larger than each of GOALS, ours and the paper's; empty where it is not reached.

    `passes_run` is how many of ours there are: a cost may be reached after them.
    """
    lines = []
    for panel, goals in GOALS.items():
        ours, paper = costs_by_series(root, panel)
        for series in ours:
            for goal in goals:
                first = [next((x + 1 for x, cost in costs[series].dropna().items() if cost <= goal), None) for costs in (ours, paper)]
                run = ours[series].notna().sum()
                lines.append({"panel": panel, "series": series, "cost": goal, "ours": first[0], "paper": first[1], "passes_run": run})
    return pd.DataFrame(lines, columns=["panel", "series", "cost", "ours", "paper", "passes_run"])


def final_costs(root: Path) -> pd.DataFrame:
    """A line for each run under `root`: mean and standard deviation over seeds of what was measured after the last pass.

    Of diverged seeds costs are infinite, and the error is not a number.
    """
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
            last = last.assign(**{name: last[name].mask(np.isinf(last["cost"]), np.inf) for name in ("train_cost", "test_cost")})
            for name in ("cost", "train_cost", "test_cost", "test_error"):
                line |= {name: last[name].mean(skipna=False), f"{name}_sd": last[name].replace(np.inf, np.nan).std(skipna=False)}
            lines.append(line)
    return pd.DataFrame(lines)


def compare(path: Path) -> str:
    """One sentence on the run whose CSV is at `path`: its distance to the paper's curve, and the tracked run's over the same passes.

    Raises:
        ValueError: there is no complete run at the path, or none that can be compared; in one sentence.
    """
    table = read_run(path) if path.suffix == ".csv" and path.exists() and path.with_suffix(".json").exists() else None
    if table is None:
        raise ValueError(f"{path} is no complete run: give a CSV that run.py has written, with its .json beside it")
    experiment, settings, optimizer = (table[key].iloc[0] for key in ("experiment", "settings", "optimizer"))
    name = f"{experiment} {optimizer}, settings={settings}"
    if (table["data"] == "standin").any():
        raise ValueError(f"{path} was trained on stand-in data, which the paper's curves say nothing of")
    if experiment not in EXPERIMENTS or optimizer not in set(published(experiment)["optimizer"]):
        raise ValueError(
            f"{path}: the paper has no curve of {optimizer} in {experiment} (figure 4 has points: make figures compares those)"
        )
    passes = table["pass"].max()
    lines = [(of, agreement(member, experiment)) for of, member in table.groupby("hyperparameters", sort=False)]
    if not lines[0][1]:
        raise ValueError(f"{path}: the paper's curve of {optimizer} in {experiment} has no point within passes 1 to {passes}")
    distances = "; ".join(f"{of} {_distance(found[0])}".strip() for of, found in lines)
    text = f"{name}, passes 1 to {passes}: {distances} from the paper's curve"
    tracked = runs(REFERENCE, experiment, "paper")
    tracked = tracked[(tracked["optimizer"] == optimizer) & (tracked["pass"] <= passes)] if not tracked.empty else tracked
    return text if tracked.empty else f"{text}; tracked, settings=paper: {_distance(agreement(tracked, experiment)[0])}"


def comparable(folder: Path) -> list[Path]:
    """Its runs of optimizers that the paper has a curve of.

    Raises:
        ValueError: there is none; in one sentence.
    """
    labels = {path: read_run(path).iloc[0] for path in chosen(folder)}
    shown = {path: label for path, label in labels.items() if label["experiment"] in EXPERIMENTS}
    found = [path for path, label in shown.items() if label["optimizer"] in set(published(label["experiment"])["optimizer"])]
    if not found:
        raise ValueError(f"{folder} has no complete run, without overrides, of an optimizer that the paper has a curve of")
    return found


def _distance(line: dict) -> str:
    seeds = f"{line['seeds']} seed{'s' * (line['seeds'] > 1)}" + f", {line['diverged']} diverged" * (line["diverged"] > 0)
    plotted = "" if np.isnan(line["rms_as_plotted"]) else f" in the second reading, {line['rms_as_plotted']:.3f} as plotted"
    return f"{line['rms_log_ratio']:.3f}{plotted} ({seeds})"


def main() -> None:
    """Measures the tracked runs, or somebody's own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="a folder of your own runs instead of the tracked ones; the tables go there")
    parser.add_argument("paths", nargs="*", type=Path, help="runs (CSV), or folders, whose distances are printed and nothing else is done")
    arguments = parser.parse_args()
    if arguments.paths:
        try:
            for path in arguments.paths:
                print(*map(compare, comparable(path) if path.is_dir() else [path]), sep="\n")
        except (ValueError, KeyError) as problem:  # a table without our columns is no run
            sys.exit(f"error: {problem}" if isinstance(problem, ValueError) else f"error: {path} is no run: it has no column {problem}")
        return
    root, folder = arguments.runs or REFERENCE, arguments.runs or RESULTS
    lines = [line for panel in PANELS for experiment, table in in_panel(root, panel) for line in agreement(table, experiment, panel)]
    if not lines:
        print("no runs on real data with settings=paper: nothing to compare with the paper")
        return
    table = pd.DataFrame(lines)
    table.to_csv(folder / "agreement.csv", index=False, float_format="%.4f")
    ranks(root).to_csv(folder / "ranks.csv", index=False, float_format="%.4g")
    passes_to_cost(root).to_csv(folder / "passes_to_cost.csv", index=False, float_format="%.4g")
    final_costs(root).to_csv(folder / "final_costs.csv", index=False, float_format="%.5f")
    print(table[["panel", "series", "seeds", "passes", "rms_log_ratio", "largest_log_ratio"]].to_string(index=False, float_format="%.4f"))


if __name__ == "__main__":
    main()
