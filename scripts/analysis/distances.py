"""Distances between curves of costs, from ln(ours / other); 0.02 is about 2 %."""

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

# Costs whose |ln(one / other)| is smaller count as equal: seeds differ by about as much.
EQUAL = 0.05


def geometric_mean(table: pd.DataFrame, costs: pd.Series | None = None) -> pd.Series:
    """Returns the geometric mean over seeds, by `x`, of `costs` (default: the column `cost`); infinite where a seed has diverged."""
    costs = table["cost"] if costs is None else costs
    return np.exp(np.log(costs).groupby(table["x"].to_numpy()).agg(lambda at_x: at_x.mean(skipna=False)))


def log_ratios(ours: pd.Series, paper: pd.DataFrame) -> np.ndarray:
    """Returns ln(ours / paper) at the plotted vertices of one published series; `ours` are costs by x, `paper` rows of `published`."""
    plotted = paper[(paper["kind"] == "plotted") & paper["x"].isin(ours.index)].set_index("x")["y"]
    return np.log(ours.loc[plotted.index].to_numpy() / plotted.to_numpy())


def lead(own: pd.Series, other: pd.Series) -> pd.Series:
    """Returns ln(other / own) of two optimizers' costs: -inf where `own` has diverged, inf where only `other` has."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(other / own).fillna(-np.inf)


def rms(values: np.ndarray) -> float:
    """Returns the root mean square; NaN without values."""
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else np.nan


def interval(by_seed: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval (BCa) over seeds of the rms of the mean log ratio, from log ratios [seeds, points].

    Rough for five seeds; NaN for a single seed, or if a seed has diverged.
    """
    if len(by_seed) < 2 or not np.isfinite(by_seed).all():
        return np.nan, np.nan

    def distance(seeds: np.ndarray) -> float:
        return rms(by_seed[seeds].mean(0))

    indices = np.arange(len(by_seed))
    found = bootstrap((indices,), distance, vectorized=False, n_resamples=999, method="BCa", rng=np.random.default_rng(0))
    return tuple(found.confidence_interval)


def wiggle(costs: pd.Series) -> pd.Series:
    """Returns ln(cost) minus its running mean over 9 epochs, from epoch 13 on, where curves are nearly straight.

    NaN from the epoch of divergence on.
    """
    late = np.log(costs.iloc[12:].replace(np.inf, np.nan))
    return late - late.rolling(9, center=True, min_periods=1).mean()
