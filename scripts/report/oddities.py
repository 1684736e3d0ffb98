"""The numbers of the unexplained observations on the published curves, from results/published only."""

import numpy as np
import pandas as pd

from scripts.analysis.distances import wiggle
from scripts.analysis.published import RESULTS, panels, paper_curves, published
from scripts.analysis.runs import of_optimizer


def oddities() -> dict:
    """Returns the variables of details/oddities.md, in the order of its sentences."""
    mnist = published("fig1_left").sort_values("x").groupby("optimizer")["y"]
    tail = pd.read_csv(RESULTS / "published" / "fig2b_adam_rescaling.csv").query("x >= 8").reset_index()
    rescaled = tail["y_plotted"] * 2.3 * (tail["x"] - 7)
    curves = paper_curves("fig2b").pivot(index="x", columns="optimizer", values="y").dropna()
    loss = pd.read_csv(RESULTS / "published" / "fig4.csv")["loss"]
    return {
        "periodicity": {name: wiggle(costs).autocorr(6) for name, costs in mnist},
        "imdb_start": _first(published("fig1_right")),
        "tail": tail,
        "rescaled": rescaled,
        "decimals": np.abs(rescaled - rescaled.round(5)).max(),
        "crossing": curves.index[curves["SFO"] < curves["Adam"]][0],
        "multiples": {name: _multiples(name, factor) for name, factor in (("Adam", 1), ("SFO", 5))},
        "cifar_start": {experiment: _first(published(experiment)) for experiment in ("fig3", "fig3_dropout")},
        "loss": loss,
        "at_400": np.isclose(loss, 400, atol=0.1).sum(),
        "stuck": loss[loss.between(200, 390, inclusive="neither")],
    }


def _first(curves: pd.DataFrame) -> pd.Series:
    """Returns each optimizer's cost at x = 0."""
    return curves.query("x == 0").set_index("optimizer")["y"]


def _multiples(optimizer: str, factor: int) -> list[bool]:
    """Returns for each point of figure 2b by time whether its abscissa is the epoch times `factor`."""
    epochs, times = (of_optimizer(published(panel), optimizer)["x"].sort_values() for panel in panels("fig2")[1:])
    return [time == factor * epoch for epoch, time in zip(epochs, times, strict=False)]
