"""Draws figure 3: the convolutional network on CIFAR-10, its first passes and all of them, without dropout (above) and with (below).

A second figure, fig3_moments, shows Adam's second-moment estimates layer by layer, and fig3_claims.csv judges what section 6.3 says,
in our runs and in the paper's own curves.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

import plots
from curves import EQUAL, REFERENCE, RESULTS, configuration, geometric_mean, lead, published, runs
from properties import meets

EXPERIMENTS = {"fig3": "no dropout", "fig3_dropout": "dropout"}
OPTIMIZERS = ("AdaGrad", "SGDNesterov", "Adam")
PANELS = tuple(
    panel
    for experiment, dropout in EXPERIMENTS.items()
    for panel in (
        plots.Panel(experiment, f"CIFAR10 ConvNet, first 3 passes, {dropout}", OPTIMIZERS, (0, 3), (0.5, 3)),
        plots.Panel(experiment, f"CIFAR10 ConvNet, {dropout}", OPTIMIZERS, (0, 45), (1e-4, 300), log=True),
    )
)
# The passes, counted as in the figure, by which the text's "initial stage" is judged.
FIRST = 1
# "Far ahead" means at most half the cost.
FAR = np.log(2)
# Where a median of vhat that is exactly 0 is drawn.
_SMALLEST = 1e-24


def claims(costs: pd.DataFrame) -> list[dict]:
    """A line for each sentence of section 6.3 on costs.

    Args:
        costs: a column for each optimizer, a row for each x.
    """
    if FIRST not in costs.index:
        return []
    ahead = min(lead(costs[name], costs["SGDNesterov"])[FIRST] for name in ("Adam", "AdaGrad"))
    behind = min(lead(costs[name], costs["AdaGrad"]).iloc[-1] for name in ("Adam", "SGDNesterov"))
    margin = lead(costs["Adam"], costs["SGDNesterov"]).iloc[-1]
    start = f"at x = {FIRST}"
    judged = (
        (f"Adam and AdaGrad are ahead of SGDNesterov {start}", ahead, False, f"> {EQUAL:g}"),
        ("Adam and SGDNesterov end far ahead of AdaGrad", behind, True, f"> {FAR:.4f}"),
        ("Adam ends marginally ahead of SGDNesterov", margin, True, f"{EQUAL:g} to {FAR:.4f}"),
    )
    return [
        {
            "claim": claim,
            "log_ratio": ratio,
            "at_end": at_end,
            "criterion": criterion,
            "holds": bool(meets(pd.Series([ratio]), criterion).all()),
        }
        for claim, ratio, at_end, criterion in judged
    ]


def judge(root: Path) -> pd.DataFrame:
    """The claims for our runs of `paper` and `best` under `root`, and for the paper's curves, for as many passes and for all."""
    lines = []
    for experiment, settings in itertools.product(EXPERIMENTS, ("paper", "best")):
        ours = runs(root, experiment, settings)
        if ours.empty or not set(OPTIMIZERS) <= set(ours["optimizer"]):
            continue
        ours = ours[ours["optimizer"].isin(OPTIMIZERS)]
        shortest = ours.groupby("optimizer")["x"].max().min()
        mean = pd.DataFrame({name: geometric_mean(of_it) for name, of_it in ours.groupby("optimizer")}).loc[:shortest]
        paper = published(experiment).pivot(index="x", columns="optimizer", values="y")
        seeds = ours.groupby("optimizer")["seed"].nunique().min()
        whose = {"source": "ours", "settings": settings, "seeds": seeds}, {"source": "paper"}, {"source": "paper"}
        for source, costs in zip(whose, (mean, paper.loc[: mean.index[-1]], paper), strict=True):
            lines += [{"experiment": experiment, **source, "passes": int(costs.index[-1]) + 1, **line} for line in claims(costs)]
    return pd.DataFrame(lines).convert_dtypes().drop_duplicates()


def draw_moments(root: Path, stem: Path) -> None:
    """Draws the median of vhat by layer, and the share of coordinates with sqrt(vhat) < eps, if there are runs of Adam under `root`."""
    tables = {dropout: runs(root, experiment, "paper") for experiment, dropout in EXPERIMENTS.items()}
    tables = {dropout: table[table["optimizer"] == "Adam"] for dropout, table in tables.items() if not table.empty}
    tables = {dropout: table for dropout, table in tables.items() if not table.empty}
    if not tables:
        return
    figure, axes = plt.subplots(1, 2, figsize=(12.8, 4.8), layout="constrained")
    for (dropout, table), style in zip(tables.items(), ("-", "--"), strict=False):
        layers = [column.removeprefix("vhat_") for column in table if column.startswith("vhat_")]
        for number, layer in enumerate(layers):
            for axis, name in zip(axes, ("vhat", "below_eps"), strict=True):
                mean = table.groupby("x")[f"{name}_{layer}"].mean().clip(lower=_SMALLEST if name == "vhat" else 0)
                axis.plot(mean.index, mean, style, color=f"C{number}", label=f"{layer}, {dropout}")
    axes[0].set(yscale="log", ylabel="median of vhat, squared units of the gradient", title="Adam's second moments, layer by layer")
    eps = {configuration(root, experiment, "Adam").get("eps") for experiment in EXPERIMENTS} - {None}
    axes[1].set(ylim=(0, 1), ylabel="share of the coordinates", title=f"sqrt(vhat) < eps = {' and '.join(sorted(eps))}")
    for axis in axes:
        axis.set_xlabel("iterations over entire dataset")
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=8)
    plots.save(figure, stem)


def main() -> None:
    """Draws the figures and writes the table of claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="a folder of your own runs, drawn over the tracked ones; figure and table go there too")
    own = parser.parse_args().runs
    for settings in ("paper", "best", "quick"):
        plots.draw("fig3", PANELS, settings, REFERENCE, own, columns=2)
    draw_moments(own or REFERENCE, (own or RESULTS) / "figures" / "fig3_moments")
    verdicts = judge(own or REFERENCE)
    if not verdicts.empty:
        verdicts.to_csv((own or RESULTS) / "fig3_claims.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
