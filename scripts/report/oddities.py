"""Unexplained observations on the published curves, computed from results/published only."""

import numpy as np
import pandas as pd

from scripts.analysis.distances import wiggle
from scripts.analysis.published import RESULTS, panels, paper_curves, published
from scripts.analysis.runs import of_optimizer


def all_oddities() -> list[str]:
    """Returns every observation, in the order of the figures."""
    return [figure_1_left(), figure_1_right(), figure_2b(), figure_2b_by_time(), figure_3(), figure_4()]


def figure_1_left() -> str:
    """Describes the curves on MNIST, which wiggle with a period of 6 epochs."""
    found = {name: wiggle(curve.sort_values("x")["y"]).autocorr(6) for name, curve in published("fig1_left").groupby("optimizer")}
    words = " and ".join(f"{found[name]:.2f} ({name})" for name in ("Adam", "SGDNesterov"))
    return (
        f"Figure 1, MNIST: two curves wiggle with a period of 6 epochs: autocorrelation {words}, {found['AdaGrad']:.2f} for AdaGrad. "
        "Data in an order that repeats after six epochs would do that; ours is shuffled anew in every epoch."
    )


def figure_1_right() -> str:
    """Describes the first points of the curves on IMDB."""
    start = published("fig1_right").query("x == 0").set_index("optimizer")["y"]
    words = ", ".join(f"{name} at {start[name]:.5f}" for name in ("AdaGrad", "RMSProp", "Adam"))
    return f"Figure 1, IMDB: the first points ({words}) lie above ln 2 = {np.log(2):.5f}, the cost of weights that are zero."


def figure_2b() -> str:
    """Describes Adam's values from x = 8 on, multiplied by 2.3 (x - 7)."""
    table = pd.read_csv(RESULTS / "published" / "fig2b_adam_rescaling.csv").query("x >= 8")
    times = table["y_plotted"] * 2.3 * (table["x"] - 7)
    curves = paper_curves("fig2b").pivot(index="x", columns="optimizer", values="y").dropna()
    crossing = curves.index[curves["SFO"] < curves["Adam"]][0]
    return (
        f"Figure 2b, Adam, from x = 8 to {table['x'].max()}: each of the {len(table)} plotted values times 2.3 (x - 7) has five decimals, "
        f"to {np.abs(times - times.round(5)).max():.0e}, and continues the earlier values smoothly. Rescaled like that, the curve ends at "
        f"{times.iloc[-1]:.5f} instead of {table['y_plotted'].iloc[-1]:.6f}, and SFO passes below Adam at x = {crossing:.0f}."
    )


def figure_2b_by_time() -> str:
    """Describes the abscissa of the lower panel, a multiple of the epoch."""
    parts = []
    for optimizer, factor in (("Adam", 1), ("SFO", 5)):
        curves = (of_optimizer(published(panel), optimizer)["x"].sort_values() for panel in panels("fig2")[1:])
        same = [by_time == factor * epoch for epoch, by_time in zip(*curves, strict=False)]
        parts.append(f"{factor} for {optimizer} ({sum(same)} of {len(same)} points)")
    return f"Figure 2b by time: the abscissa is exactly the epoch times {' and '.join(parts)}, not a time that was measured."


def figure_3() -> str:
    """Describes the first points with and without dropout."""
    without, dropout = (published(experiment).query("x == 0").set_index("optimizer")["y"] for experiment in ("fig3", "fig3_dropout"))
    words = ", ".join(f"{name} {without[name]:.2f} against {dropout[name]:.2f}" for name in ("Adam", "SGDNesterov"))
    return f"Figure 3: at x = 0 the cost without dropout is higher than with it ({words}), although dropout adds noise to the cost."


def figure_4() -> str:
    """Describes the points at a loss of 400."""
    loss = pd.read_csv(RESULTS / "published" / "fig4.csv")["loss"]
    stuck = loss[loss.between(200, 390, inclusive="neither")]
    return (
        f"Figure 4: {np.isclose(loss, 400, atol=0.1).sum()} of {len(loss)} points lie at a loss of 400.0, far above the axis; {len(stuck)} "
        f"others lie at {stuck.min():.0f} to {stuck.max():.0f} nats. The paper seems to draw a diverged run at 400."
    )
