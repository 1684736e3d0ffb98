"""Figure 4: our losses over the learning rate, the paper's points, and the distances between them."""

from pathlib import Path

import numpy as np
import pandas as pd

from experiments.records import Run
from scripts.analysis.distances import rms
from scripts.analysis.published import RESULTS
from scripts.analysis.runs import canonical_runs

EPOCHS = {"fig4": 10, "fig4_100": 100}
BETA1S, BETA2S = (0.0, 0.9), (0.99, 0.999, 0.9999)
LOSSES = (95, 140)  # the paper's axis
DIVERGED = 400.0
EXPLODED = 1e10  # nats, the mean over an epoch; a bound that was set after the paper's 400s and ours had been compared
NOISE = 0.5  # nats: two losses nearer than that count as equal, for rounding alone moves single ones as far
DRAWN = ["lr", "beta1", "beta2", "momentum", "rho"]  # the hyper-parameters of the abscissa and of the cells
SETTINGS = ["epochs", "beta1", "beta2", "bias_correction", "alpha"]


def published() -> pd.DataFrame:
    """Returns the paper's points: the columns of SETTINGS, `loss` and `kind`."""
    table = pd.read_csv(RESULTS / "published" / "fig4.csv")
    return table.assign(bias_correction=table["bias_correction"].astype(bool), alpha=[float(f"{alpha:.0e}") for alpha in table["alpha"]])


def rows_after(run: Run, epochs: int) -> pd.DataFrame:
    """Returns the rows of a run for the epoch number `epochs`.

    Adds `peak`, the largest cost so far, and a column for each of the optimizer's hyper-parameters that does not vary.
    """
    table = run.table()
    table = table[table["epoch"] <= epochs]
    shared = {key: value for key, value in run.identity["optimizer"].items() if key not in table and not isinstance(value, dict | list)}
    return table.assign(peak=table.groupby("member")["cost"].transform("max"), **shared)[table["epoch"] == epochs]


def sweeps(root: Path, settings: str, data: str = "real") -> pd.DataFrame:
    """Returns `rows_after` 10 epochs of the runs of fig4 and after 100 epochs of those of fig4_100."""
    runs = [run for experiment in EPOCHS for run in canonical_runs(root, experiment, settings, data)]
    return pd.concat([rows_after(run, EPOCHS[run.experiment]) for run in runs], ignore_index=True) if runs else pd.DataFrame()


def measured(table: pd.DataFrame, reading: str = "cost") -> pd.DataFrame:
    """Returns our losses: the columns of SETTINGS, `optimizer`, `seed`, `loss` and `peak`; losses are infinite after divergence.

    For RMSProp beta1 is the momentum, beta2 is rho, and alpha is lr / (1 - momentum), its long-run step length.

    Args:
        table: rows from `sweeps`.
        reading: the column of the loss: `cost`, the mean during the last epoch, or another, such as `train_cost`.
    """
    table = table.reset_index(drop=True)
    given = table.reindex(columns=[*DRAWN, "bias_correction"])
    momentum = given["momentum"].astype(float)
    return pd.DataFrame(
        {
            "optimizer": table["optimizer"],
            "epochs": table["epoch"],
            "beta1": given["beta1"].astype(float).fillna(momentum),
            "beta2": given["beta2"].astype(float).fillna(given["rho"].astype(float)),
            "bias_correction": given["bias_correction"] == True,  # noqa: E712  missing for RMSProp
            "alpha": [float(f"{alpha:.6g}") for alpha in given["lr"].astype(float) / (1 - momentum.fillna(0))],
            "seed": table["seed"],
            "loss": table[reading].where(np.isfinite(table["cost"]), np.inf),
            "peak": table.get("peak"),
        }
    )


def in_cell(table: pd.DataFrame, epochs: int, beta1: float, beta2: float) -> pd.DataFrame:
    """Returns the rows of one cell of the figure; rows without a beta belong to every cell."""
    return table[(table["epochs"] == epochs) & (table["beta1"].fillna(beta1) == beta1) & (table["beta2"].fillna(beta2) == beta2)]


def mean_losses(losses: pd.DataFrame) -> pd.DataFrame:
    """Returns the columns of SETTINGS and the mean `loss`; infinite where a seed has diverged."""
    return losses.groupby(SETTINGS)["loss"].mean().reset_index()


def points(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Joins Adam's losses, means over seeds, to the published points.

    Returns:
        The columns of SETTINGS; `published` and `ours`, in nats; `published_diverged`, `ours_diverged`; `ours_peak`, the largest cost of
        any epoch and seed, which shows members that exploded and recovered; and `difference`, ours - published, in nats, where neither
        diverged and the point is a plotted one.
    """
    adam = ours[ours["optimizer"] == "Adam"]
    mean = mean_losses(adam).rename(columns={"loss": "ours"})
    both = (
        paper.rename(columns={"loss": "published"})
        .merge(mean, on=SETTINGS)
        .join(adam.groupby(SETTINGS)["peak"].max().rename("ours_peak"), on=SETTINGS)
    )
    both["published_diverged"] = np.isclose(both["published"], DIVERGED, atol=0.1)  # read from the direction of a line: inexact
    both["ours_diverged"] = np.isinf(both["ours"])
    judged = both["kind"].str.startswith("plotted") & ~both["published_diverged"] & ~both["ours_diverged"]
    both["difference"] = (both["ours"] - both["published"]).where(judged)
    return both


def agreement(both: pd.DataFrame) -> pd.Series:
    """Summarises a table from `points`.

    Returns:
        `points`: their number; `compared`: the number with a difference; `median`, `largest`: of the absolute difference, in nats;
        `rms_log_ratio`, `largest_log_ratio`: of ln(ours / paper) at the same points; `divergence`, `on_axis`: shares of points where ours
        and the paper's agree in whether the loss diverged, or lies on the paper's axis; `explosion`: as `divergence`, with a peak above
        EXPLODED counted as divergence.
    """
    differences, ratios = both["difference"].abs().dropna(), np.log(both["ours"] / both["published"]).where(both["difference"].notna())
    return pd.Series(
        {
            "points": float(len(both)),
            "compared": float(len(differences)),
            "median": differences.median(),
            "largest": differences.max(),
            "rms_log_ratio": rms(ratios.dropna()),
            "largest_log_ratio": ratios.abs().max(),
            "divergence": (both["published_diverged"] == both["ours_diverged"]).mean(),
            "explosion": (both["published_diverged"] == (both["ours_peak"] > EXPLODED)).mean(),
            "on_axis": ((both["published"] <= LOSSES[1]) == (both["ours"] <= LOSSES[1])).mean(),
        }
    )


def summary(both: pd.DataFrame) -> str:
    """Returns `agreement` as a sentence."""
    found = agreement(both)
    return (
        f"{found['points']:.0f} points, {found['compared']:.0f} of them to compare: median difference {found['median']:.2f} nats, "
        f"largest {found['largest']:.2f}; divergence agrees in {found['divergence']:.1%}, in {found['explosion']:.1%} if runs count that "
        f"exploded and came back; whether the loss lies on the paper's axis in {found['on_axis']:.1%}"
    )
