"""Tables of distances to the paper's curves, ranks and final costs.

The distance is the rms of ln(ours / paper) over the published vertices, where ours is the geometric mean over seeds; 0.02 is about 2 %.
Its interval is a bootstrap over seeds; its lowest and highest values are those of single seeds. The wiggle is the standard deviation of
ln(cost) around its trend.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from experiments.records import catalogue
from scripts.analysis.distances import geometric_mean, interval, log_ratios, rms, wiggle
from scripts.analysis.published import Panel, panels, paper_curves, published, rescaled
from scripts.analysis.runs import by_time, canonical_runs, diverged, read_runs, shown_costs

SHARES = (0.1, 0.5, 1.0)


def agreement(table: pd.DataFrame, panel: Panel) -> list[dict]:
    """Returns a row for each optimizer of a panel that the table of runs has.

    The published cost may have been taken in several ways: `rms_evaluated` is without the penalty, `rms_with_penalty` with it,
    `rms_after_the_epoch` after the epoch with noise off; all at evaluated epochs only. `rms_as_plotted` is the
    distance to a curve that we otherwise rescale.
    """
    lines = []
    paper, plotted = paper_curves(panel), published(panel)
    plotted = plotted[plotted["optimizer"].isin(rescaled(panel)["optimizer"])]
    if panel.by_time:
        table = _at_published_times(by_time(table), paper)
    for optimizer in sorted(set(table["optimizer"]) & set(paper["optimizer"]) if not table.empty else ()):
        ours, curve = table[table["optimizer"] == optimizer], paper[paper["optimizer"] == optimizer]
        by_seed = np.stack([log_ratios(member.set_index("x")["cost"], curve) for _, member in ours.groupby("member")])
        mean = geometric_mean(ours)
        ratios = log_ratios(mean, curve)
        if not len(ratios):  # some published curves lack the first epochs
            continue
        evaluated = ours[ours["train_cost"].notna().groupby(ours["x"]).transform("any")]
        during = log_ratios(geometric_mean(evaluated, evaluated["without_penalty"]), curve)
        low, high = interval(by_seed)
        of_seeds = [rms(seed) for seed in by_seed]
        shown = curve[(curve["kind"] == "plotted") & curve["x"].isin(mean.index)]
        lines.append(
            {
                "panel": panel.published,
                "series": curve["series"].iloc[0],
                "experiment": panel.experiment,
                "optimizer": optimizer,
                "seeds": ours["seed"].nunique(),
                "diverged": diverged(ours),
                "epochs": ours["epoch"].max(),
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
                "rms_with_penalty": rms(log_ratios(geometric_mean(evaluated, evaluated["without_penalty"] + evaluated["penalty"]), curve)),
                "rms_after_the_epoch": rms(log_ratios(geometric_mean(evaluated, evaluated["train_cost"]), curve)),
                "rms_as_plotted": rms(log_ratios(mean, plotted[plotted["optimizer"] == optimizer])),
                "wiggle": ours.groupby("member")["cost"].apply(wiggle).groupby(level=0).std().mean(),
                "published_wiggle": wiggle(curve[curve["kind"] == "plotted"].sort_values("x")["y"]).std(),
            }
        )
    return lines


def _at_published_times(table: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Interpolates the costs of runs by time (see `by_time`) at the published abscissas; other measurements become NaN."""
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


def costs_by_series(root: Path, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns our costs (geometric means over seeds) and the paper's: a column per series that both have, a row per x.

    `name` is the file of published curves, which may serve several panels, such as figure 3 with and without dropout.
    """
    ours, paper = {}, {}
    for panel in panels():
        table = read_runs(root, panel.experiment, "paper") if panel.published == name else pd.DataFrame()
        for optimizer, curve in paper_curves(panel).groupby("optimizer") if not table.empty else ():
            if optimizer in set(table["optimizer"]):
                series = curve["series"].iloc[0]
                ours[series], paper[series] = geometric_mean(table[table["optimizer"] == optimizer]), curve.set_index("x")["y"]
    return pd.DataFrame(ours), pd.DataFrame(paper)


def ranks(root: Path) -> pd.DataFrame:
    """Returns our and the paper's order of each panel's series, lowest cost first, at SHARES of the common epochs.

    Kendall's tau is 1 for the same order and -1 for the reverse. In a gap of the paper's curves, the next common epoch counts.
    """
    lines = []
    for panel in _with_goals():
        ours, paper = costs_by_series(root, panel)
        common = ours.dropna().index.intersection(paper.dropna().index)
        if ours.shape[1] < 2 or not len(common):
            continue
        epochs = common[-1] + 1
        for share in SHARES:
            if share * epochs < 1:
                continue
            x = common[common.searchsorted(round(share * epochs) - 1)]
            lines.append(
                {
                    "panel": panel,
                    "share_of_epochs": share,
                    "epoch": x + 1,
                    "ours": " < ".join(ours.loc[x].sort_values().index),
                    "paper": " < ".join(paper.loc[x].sort_values().index),
                    "kendall_tau": kendalltau(ours.loc[x], paper.loc[x]).statistic,
                }
            )
    return pd.DataFrame(lines, columns=["panel", "share_of_epochs", "epoch", "ours", "paper", "kendall_tau"])


def epochs_to_cost(root: Path) -> pd.DataFrame:
    """Returns our and the paper's first epoch (1, 2, ...) at which each series reaches each goal; None if it does not.

    `epochs_run` is the number of our epochs: a longer run may reach the goal.
    """
    lines = []
    for panel, goals in _with_goals().items():
        ours, paper = costs_by_series(root, panel)
        for series in ours:
            for goal in goals:
                first = [next((x + 1 for x, cost in costs[series].dropna().items() if cost <= goal), None) for costs in (ours, paper)]
                run = ours[series].notna().sum()
                lines.append({"panel": panel, "series": series, "cost": goal, "ours": first[0], "paper": first[1], "epochs_run": run})
    return pd.DataFrame(lines, columns=["panel", "series", "cost", "ours", "paper", "epochs_run"])


def _with_goals() -> dict[str, tuple[float, ...]]:
    """Returns the goals of panels that have them, by the file of the published curves."""
    return {panel.published: panel.goals for panel in panels() if panel.goals}


def final_costs(root: Path) -> pd.DataFrame:
    """Returns a row for each canonical run without varying hyper-parameters: means and standard deviations over seeds in the last epoch.

    Costs of diverged seeds are infinite, their errors NaN.
    """
    lines = []
    for experiment, settings in sorted({(run.experiment, run.settings) for run in catalogue(root) if run.experiment}):
        for run in canonical_runs(root, experiment, settings):
            if run.hyperparameters:
                continue
            ours = shown_costs(run)
            last = ours[ours["epoch"] == ours["epoch"].max()]
            line = {
                "experiment": experiment,
                "settings": settings,
                "optimizer": run.optimizer,
                "seeds": len(last),
                "epochs": last["epoch"].max(),
            }
            last = last.assign(**{name: last[name].mask(np.isinf(last["cost"]), np.inf) for name in ("train_cost", "test_cost")})
            for name in ("cost", "train_cost", "test_cost", "test_error"):
                line |= {name: last[name].mean(skipna=False), f"{name}_sd": last[name].replace(np.inf, np.nan).std(skipna=False)}
            lines.append(line)
    return pd.DataFrame(lines)
