"""Draws the properties that the paper claims without a figure, from the tables of experiments/properties; a function each."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from scripts.analysis.runs import read_measured
from scripts.claims.judging import stated
from scripts.claims.properties import at_best_lr
from scripts.figures import panels

_DIVERGED = 1e3  # drift at which diverged paths are drawn
_WIDTHS = {"invariance": 6.4, "moments": 6.4, "kinship": 6.4, "tracking": 20, "regret": 20}  # inches; 12.8 for the others


def draw(root: Path, folder: Path) -> None:
    """Draws each property that was measured under `root` to folder/NAME.png and .svg."""
    for name in stated("properties"):
        table = read_measured(root, name)
        if table is None:
            continue
        figure = plt.figure(figsize=(_WIDTHS.get(name, 12.8), 4.8), layout="constrained")
        globals()[name](table, figure)
        if "data" in table and (table["data"] == "standin").any():
            figure.suptitle("STAND-IN DATA", color="red")
        panels.save(figure, folder / name)


def invariance(table: pd.DataFrame, figure: Figure) -> None:
    """Draws invariance to diagonal rescaling."""
    axis = figure.subplots()
    for (optimizer, eps), part in table.groupby(["optimizer", "eps"]):
        mean = part["drift"].fillna(np.inf).groupby(part["factor"]).mean().clip(1e-17, _DIVERGED)
        style = "-" if eps == 0 else "--" if eps == table.loc[table["eps"] > 0, "eps"].min() else ":"
        axis.plot(mean.index, mean, style, marker=".", color=panels.COLOURS[optimizer], label=f"{optimizer}, eps = {eps:g}")
    axis.set(xscale="log", yscale="log", xlabel="c: gradients scaled by 1/c to c", ylabel="deviation over distance travelled")
    axis.set_title(f"Deviation of the trajectory under rescaled gradients (at {_DIVERGED:g}: diverged)", fontsize=10)
    axis.legend(fontsize=7)


def step_bounds(table: pd.DataFrame, figure: Figure) -> None:
    """Draws the bounds of a step."""
    axes = figure.subplots(1, 2, sharey=True)
    for axis, optimizer in zip(axes, ("Adam", "AdaMax"), strict=True):
        ours = table[table["optimizer"] == optimizer]
        kinds = list(dict.fromkeys(ours["kind"]))
        for number, (betas, part) in enumerate(ours.groupby(["beta1", "beta2"], sort=False)):
            places = np.arange(len(kinds)) + 0.2 * (number - 1.5)  # side by side
            for bound, style, words in (("paper_bound", "-", "the paper's bound"), ("exact_bound", ":", "exact bound")):
                height = part[bound].iloc[0]
                axis.hlines([height] * len(kinds), places - 0.09, places + 0.09, color=f"C{number}", linestyle=style)
                if number == 0:
                    axis.plot([], [], color="black", linestyle=style, label=words)
            largest = part.groupby("kind")["largest"].max()[kinds]
            axis.plot(places, largest, "o", markersize=5, color=f"C{number}", label=f"beta1 = {betas[0]:g}, beta2 = {betas[1]:g}")
        axis.set(title=f"{optimizer}: largest step by kind of gradients", ylabel="largest step / alpha", yscale="log")
        axis.set_xticks(range(len(kinds)), kinds, fontsize=8)
        axis.yaxis.set_tick_params(labelleft=True)
    axes[0].legend(fontsize=8)


def moments(table: pd.DataFrame, figure: Figure) -> None:
    """Draws the bias of second moments."""
    axis = figure.subplots()
    for number, (drift, part) in enumerate(table.groupby("drift")):
        mean = part.groupby("t").mean(numeric_only=True)
        axis.plot(mean.index, mean["v"], color=f"C{number}", label=f"v, drift {drift:g} per step")
        axis.plot(mean.index, mean["vhat"], "--", color=f"C{number}", label="vhat")
        axis.plot(mean.index, mean["expected"], color="black", linewidth=0.7)
    axis.axhline(1, color="grey", linewidth=0.7)
    axis.set(
        xlabel="t", ylabel="relative to E[g_t^2]", title="Adam's second moments where gradients drift; black: equation 4", ylim=(0, None)
    )
    axis.legend(fontsize=8)


def annealing(table: pd.DataFrame, figure: Figure) -> None:
    """Draws annealing near an optimum."""
    ratios, costs = figure.subplots(1, 2)
    for number, (start, part) in enumerate(table.groupby("start")):
        mean = part.groupby("t").mean(numeric_only=True)
        ratios.plot(mean.index, mean["q50"], color=f"C{number}", label=f"start: {start}")
        for low, high, alpha in (("q10", "q90", 0.12), ("q25", "q75", 0.2)):
            ratios.fill_between(mean.index, mean[low], mean[high], color=f"C{number}", alpha=alpha, linewidth=0)
        costs.plot(mean.index, mean["cost"], color=f"C{number}", label=f"start: {start}")
    ratios.set(xscale="log", xlabel="t", ylabel="|mhat| / sqrt(vhat): median, quartiles, 10 to 90 %", title="Steps shrink near an optimum")
    costs.set(xscale="log", yscale="log", xlabel="t", ylabel="training cost with the penalty", title="Cost of the same runs")
    ratios.legend(fontsize=8)


def regret(table: pd.DataFrame, figure: Figure) -> None:
    """Draws regret and the counterexample."""
    problems = list(dict.fromkeys(table["problem"]))
    for axis, problem in zip(figure.subplots(1, len(problems)), problems, strict=True):
        lowest = 0.0
        for optimizer, part in table[table["problem"] == problem].groupby("optimizer", sort=False):
            mean = part.groupby("T")["average_regret"].mean()
            lowest = min(lowest, mean.min())
            colour = (panels.COLOURS | {"SGD": "#999933", "AMSGrad": "#332288"})[optimizer.partition(",")[0]]
            axis.plot(mean.index, mean, ":" if "small" in optimizer else "-", marker=".", color=colour, label=optimizer)
        times = np.array([table["T"].min(), table["T"].max()])
        axis.plot(times, np.sqrt(times[0] / times), color="black", linestyle="--", linewidth=0.8, label="1 / sqrt(T)")
        axis.set(xscale="log", yscale="log", xlabel="T", ylabel="average regret", title=problem)
        if lowest < 0:  # moving iterates can beat the best fixed point
            axis.set_yscale("symlog", linthresh=0.1)
            axis.axhspan(-0.1, 0.1, color="grey", alpha=0.1, linewidth=0)
            axis.set_title(f"{problem} (grey: linear axis)")
        axis.legend(fontsize=7)


def kinship(table: pd.DataFrame, figure: Figure) -> None:
    """Draws the limits towards AdaGrad and RMSProp."""
    axis = figure.subplots()
    for number, (relative, part) in enumerate(table.groupby("relative", sort=False)):
        for corrected, style in ((True, "-"), (False, "--")):
            mean = part[part["bias_correction"] == corrected].groupby("one_minus_beta2")["distance"].mean()
            name = f"Adam{'' if corrected else ', uncorrected'} to {relative}"
            axis.plot(mean.index, mean, style, marker=".", color=f"C{number}", label=name)
    axis.set(xscale="log", yscale="log", xlabel="1 - beta2", ylabel="largest distance over distance travelled")
    axis.set_title("Adam's distance from AdaGrad and RMSProp", fontsize=10)
    axis.legend(fontsize=8)


def tracking(table: pd.DataFrame, figure: Figure) -> None:
    """Draws drifting targets and rare features."""
    parts = (
        ("second tenth", "second tenth", "drifting target, second tenth of the steps"),
        ("last tenth", "second tenth", "last tenth of the steps: AdaGrad falls behind"),
        ("all features", "all features", "sparse features"),
        ("rare features", "all features", "sparse features, rare ones only"),
    )
    for axis, (metric, judged, title) in zip(figure.subplots(1, 4), parts, strict=True):
        best = at_best_lr(table, judged).query("metric == @metric").groupby("optimizer")[["lr", "error"]].mean()
        for optimizer, part in table[table["metric"] == metric].groupby("optimizer"):
            mean = part.groupby("lr")["error"].mean()
            mean = mean[mean < 10]
            axis.plot(mean.index, mean, marker=".", color=panels.COLOURS[optimizer], label=optimizer)
            axis.plot(*best.loc[optimizer], "o", markersize=9, fillstyle="none", color=panels.COLOURS[optimizer])
        axis.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="error")
        axis.set_title(title, fontsize=10)
    axis.plot([], [], "o", markersize=9, fillstyle="none", color="black", label="compared: best in the left one of each pair")
    axis.legend(fontsize=8)
    means = table[table["problem"] == "drifting"].groupby(["optimizer", "metric", "lr"])["error"].mean().unstack().idxmin(axis=1)
    words = "; ".join(
        f"{name}: {means[name, 'second tenth']:g} in the second tenth, {means[name, 'last tenth']:g} in the last"
        for name in ("AdaGrad", "Adam")
    )
    title = f"Best learning rates on the drifting target. {words}. AdaGrad's steps shrink, so its best learning rate grows."
    figure.suptitle(title, fontsize=10)


def norms(table: pd.DataFrame, figure: Figure) -> None:
    """Draws the p-norms and their limit."""
    distances, lost = figure.subplots(1, 2)
    for number, (dtype, part) in enumerate(table.groupby("dtype")):
        mean = part.groupby("p")[["distance", "lost"]].mean()
        distances.plot(mean.index, mean["distance"], marker=".", color=f"C{number}", label=dtype)
        lost.plot(mean.index, mean["lost"], marker=".", color=f"C{number}", label=dtype)
    distances.set(xscale="log", yscale="log", xlabel="p", ylabel="distance from AdaMax over distance travelled", title="Adam with a p-norm")
    lost.set(xscale="log", xlabel="p", ylabel="share of coordinates", title="Coordinates that overflow or underflow")
    distances.legend(fontsize=8)


def averaging(table: pd.DataFrame, figure: Figure) -> None:
    """Draws averages of the parameters."""
    models = list(dict.fromkeys(table["model"]))
    for axis, model in zip(figure.subplots(1, len(models)), models, strict=True):
        for number, (estimate, part) in enumerate(table[table["model"] == model].groupby("estimate", sort=False)):
            by_time = part.groupby("t")["test_cost"]
            axis.plot(by_time.mean().index, by_time.mean(), color=f"C{number}", marker=".", label=estimate)
            axis.fill_between(by_time.mean().index, by_time.min(), by_time.max(), color=f"C{number}", alpha=0.2, linewidth=0)
        axis.set(xscale="log", yscale="log", xlabel="t", ylabel="test cost", title=model)
    axis.legend(fontsize=8)
