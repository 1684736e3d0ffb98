"""Oddities of the published curves, as observations with their numbers, from results/published alone."""

import numpy as np
import pandas as pd

from scripts.analysis.distances import wiggle
from scripts.analysis.published import RESULTS, panels, paper_curves, published


def tail_of_figure_2b() -> str:
    """From x = 8 on Adam's values times 2.3 (x - 7) have five decimals."""
    table = pd.read_csv(RESULTS / "published" / "fig2b_adam_rescaling.csv").query("x >= 8")
    times = table["y_plotted"] * 2.3 * (table["x"] - 7)
    curves = paper_curves("fig2b").pivot(index="x", columns="optimizer", values="y").dropna()
    crossing = curves.index[curves["SFO"] < curves["Adam"]][0]
    off = np.abs(times - times.round(5)).max()
    return (
        f"Figure 2b, Adam, x = 8 to {table['x'].max()}: each of the {len(table)} plotted values times 2.3 (x - 7) is a number of five "
        f"decimals, to {off:.0e}, and these continue the earlier values smoothly. Multiplied, the curve ends at {times.iloc[-1]:.5f} "
        f"instead of {table['y_plotted'].iloc[-1]:.6f}, and SFO passes below Adam at x = {crossing:.0f}."
    )


def time_in_figure_2b() -> str:
    """The abscissa of the lower panel is the pass number, times 5 for SFO."""
    parts = []
    for optimizer, factor in (("Adam", 1), ("SFO", 5)):
        curves = (published(panel) for panel in panels("fig2")[1:])
        top, bottom = (curve[curve["optimizer"] == optimizer].sort_values("x") for curve in curves)
        points = min(len(top), len(bottom))
        same = (bottom["x"].to_numpy()[:points] == factor * top["x"].to_numpy()[:points]).sum()
        parts.append(f"{factor} for {optimizer} ({same} of {points} points)")
    return f"Figure 2b, wall time: the abscissa is exactly the pass number times {' and '.join(parts)}, not a time that was taken."


def losses_of_400() -> str:
    """Points of figure 4 that sit at 400."""
    table = pd.read_csv(RESULTS / "published" / "fig4.csv")
    stuck = table[(table["loss"] > 200) & (table["loss"] < 390)]["loss"]
    return (
        f"Figure 4: {np.isclose(table['loss'], 400, atol=0.1).sum()} of {len(table)} vertices lie at a loss of 400.0, far above the axis; "
        f"{len(stuck)} others at {stuck.min():.0f} to {stuck.max():.0f} nats. A run that diverged seems to be drawn as 400."
    )


def order_of_figure_1() -> str:
    """The curves on MNIST wiggle with a period of 6 passes."""
    found = {name: wiggle(curve.sort_values("x")["y"]).autocorr(6) for name, curve in published("fig1_left").groupby("optimizer")}
    faint = found.pop("AdaGrad")
    words = " and ".join(f"{value:.2f} ({name})" for name, value in found.items())
    return (
        f"Figure 1 left: two curves wiggle with a period of 6 passes, autocorrelation {words}, as if their order of data had one; "
        f"in AdaGrad's it is fainter ({faint:.2f})."
    )


def first_points_of_figure_1() -> str:
    """Where the curves on IMDB start."""
    start = published("fig1_right").query("x == 0").set_index("optimizer")["y"]
    return (
        f"Figure 1 right: at x = 0 AdaGrad is at {start['AdaGrad']:.5f}, RMSProp at {start['RMSProp']:.5f}, "
        f"Adam at {start['Adam']:.5f}, all above ln 2 = {np.log(2):.5f}, the cost of weights that are zero."
    )


def dropout_in_figure_3() -> str:
    """The first points of figure 3 with and without dropout."""
    without, dropout = (published(experiment).query("x == 0").set_index("optimizer")["y"] for experiment in ("fig3", "fig3_dropout"))
    words = ", ".join(f"{name} {without[name]:.2f} against {dropout[name]:.2f}" for name in ("Adam", "SGDNesterov"))
    return f"Figure 3: at x = 0 the cost without dropout is higher than with it ({words}), though dropout adds noise to the cost."


def all_oddities() -> list[str]:
    """Every observation, in the order of the figures."""
    return [
        order_of_figure_1(),
        first_points_of_figure_1(),
        tail_of_figure_2b(),
        time_in_figure_2b(),
        dropout_in_figure_3(),
        losses_of_400(),
    ]
