"""Judges and draws what the paper claims without a figure, from the tables of experiments/properties: results/properties.csv.

Each line is a claim in our words with its section, a measured value (mean over seeds, and their range), the criterion, and a verdict: the
claim holds if every seed meets the criterion, fails if none does, and depends on the seed otherwise.
"""

import argparse
import itertools
import operator
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

import plots
from curves import REFERENCE, RESULTS, lead, read_table, runs
from figure4 import measured, sweeps

HOLDS, FAILS, SEEDS = "holds", "fails", "depends on the seed"
_DIVERGED = 1e3  # where a path that diverged is drawn
ROUNDED_1 = "<= 1.000001"  # 1, but for rounding
_COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def meets(values: pd.Series, criterion: str) -> pd.Series:
    """Whether each value meets a criterion such as `< 0.05` or `0.98 to 1.02`."""
    first, *rest = criterion.split()
    if first in _COMPARISONS:
        return _COMPARISONS[first](values, float(rest[0]))
    return values.between(float(first), float(rest[1]))


def line(claim: str, section: str, quantity: str, values: pd.Series, criterion: str) -> dict:
    """One line of the table.

    Args:
        claim: in our words.
        section: of the paper.
        quantity: what is measured.
        values: one for each seed.
        criterion: what a seed's value must meet; see `meets`.
    """
    met = meets(values, criterion)
    return {
        "claim": claim,
        "section": section,
        "quantity": quantity,
        "value": values.mean(),
        "lowest": values.min(),
        "highest": values.max(),
        "seeds": len(values),
        "criterion": criterion,
        "verdict": HOLDS if met.all() else SEEDS if met.any() else FAILS,
    }


def judge_invariance(table: pd.DataFrame) -> list[dict]:
    """Verdicts on invariance to diagonal rescaling."""
    widest = table[table["factor"] == table["factor"].max()]
    ours = widest[widest["optimizer"].isin(["Adam", "AdaMax"])]
    without, with_eps = (ours[ours["eps"] == eps].groupby("seed")["drift"].max() for eps in (0.0, ours.loc[ours["eps"] > 0, "eps"].min()))
    factor, eps = widest["factor"].iloc[0], ours.loc[ours["eps"] > 0, "eps"].min()
    quantity = f"distance between the ends over the way, gradients rescaled by up to {factor:g} either way"
    rescaled = "when gradients are rescaled diagonally (Adam and AdaMax)"
    return [
        line(f"Steps do not change {rescaled}, without eps", "2.1", quantity, without, "< 1e-09"),
        line(f"Ours: with eps = {eps:g} they change little {rescaled}", "2.1", quantity, with_eps, "< 0.1"),
    ]


def draw_invariance(table: pd.DataFrame, figure: plt.Figure) -> None:
    """Draws invariance to diagonal rescaling."""
    axis = figure.subplots()
    for (optimizer, eps), part in table.groupby(["optimizer", "eps"]):
        mean = part["drift"].fillna(np.inf).groupby(part["factor"]).mean().clip(1e-17, _DIVERGED)
        style = "-" if eps == 0 else "--" if eps == table.loc[table["eps"] > 0, "eps"].min() else ":"
        axis.plot(mean.index, mean, style, marker=".", color=plots.COLOURS[optimizer], label=f"{optimizer}, eps = {eps:g}")
    axis.set(xscale="log", yscale="log", xlabel="gradients are rescaled by 1/c to c; c", ylabel="drift, relative to the way")
    axis.set_title(f"Rescaled gradients: how far the path drifts (at {_DIVERGED:g}: diverged)", fontsize=10)
    axis.legend(fontsize=7)


def judge_step_bounds(table: pd.DataFrame) -> list[dict]:
    """Verdicts on the bounds of a step."""
    over_paper, over_exact = (table["largest"] / table[f"{bound}_bound"] for bound in ("paper", "exact"))
    lines = []
    for optimizer, section, words in (("Adam", "2.1", "alpha max(1, (1 - beta1) / sqrt(1 - beta2))"), ("AdaMax", "7.1", "alpha")):
        chosen = table["optimizer"] == optimizer
        worst = over_paper[chosen].groupby(table["seed"]).max()
        lines.append(line(f"A step of {optimizer} is at most {words}", section, "largest step over that bound", worst, ROUNDED_1))
    usual = table[(table["optimizer"] == "Adam") & (table["kind"] == "dense") & (table["beta1"] == 0.9) & (table["beta2"] == 0.999)]
    about = usual.groupby("seed")["largest"].max()
    claim, quantity = "In common scenarios a step is at most about alpha", "largest step over alpha, dense random gradients, default betas"
    lines.append(line(claim, "2.1", quantity, about, "< 1.5"))
    single = table[(table["kind"] == "single") & (table["optimizer"] == "Adam") & (table["paper_bound"] > 1)]
    attained = (single["largest"] / single["paper_bound"]).groupby(single["seed"]).max()
    claim = "The bound of a step is attained by a gradient that was zero until now"
    lines.append(line(claim, "2.1", "its step over the bound", attained, "> 0.95"))
    exact = over_exact.groupby(table["seed"]).max()
    claim = "Ours: no step exceeds the bounds of Cauchy and Schwarz, 7.27 alpha for Adam and 1.009 alpha for AdaMax at the default betas"
    return [*lines, line(claim, "2.1, 7.1", "largest step over that bound", exact, ROUNDED_1)]


def draw_step_bounds(table: pd.DataFrame, figure: plt.Figure) -> None:
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


def judge_moments(table: pd.DataFrame) -> list[dict]:
    """Verdicts on the bias of the moments."""
    still, drifting = table[table["drift"] == 0], table[table["drift"] != 0]
    by_seed = still.groupby("seed")
    error, corrected = by_seed["recursion_error"].max(), by_seed["vhat"].mean()
    uncorrected = (still["v"] / still["without_zeta"]).groupby(still["seed"]).mean()
    with_zeta = (drifting["v"] / drifting["expected"]).groupby(drifting["seed"]).mean()
    last = drifting[drifting["t"] == drifting["t"].max()]
    bias = np.abs(np.log(last["vhat"])).groupby(last["seed"]).max()
    near = "0.98 to 1.02"
    drift = "|ln(vhat_t / E[g_t^2])| at the end, E[g^2] halving or doubling in 1.4 / (1 - beta2) steps"
    return [
        line("v_t is the decaying sum of squares of equation 1", "3", "largest relative difference", error, "< 1e-12"),
        line("E[v_t] = (1 - beta2^t) E[g^2] for stationary gradients", "3", "v_t over that, mean over t", uncorrected, near),
        line("Corrected, E[vhat_t] = E[g^2] from the first step on", "3", "vhat_t over that, mean over t", corrected, near),
        line("Where gradients drift, zeta of equation 4 is the difference", "3", "v_t over equation 4, mean over t", with_zeta, near),
        line("zeta can be kept small", "3", drift, bias, "< 0.05"),
    ]


def draw_moments(table: pd.DataFrame, figure: plt.Figure) -> None:
    """Draws the bias of the moments."""
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


def judge_annealing(table: pd.DataFrame) -> list[dict]:
    """Verdicts on annealing near an optimum."""
    first, last = table[table["t"] == table["t"].min()], table[table["t"] == table["t"].max()]
    near, far = (
        last[last["start"] == "zero"].set_index("seed")["q50"],
        first[first["start"] == "far"].set_index("seed")["q50"],
    )
    share = near / far
    claim = "Near an optimum |mhat| / sqrt(vhat), and with it the step, is small without a schedule"
    return [line(claim, "2.1", "ratio of its medians, near the optimum to far away", share, "< 0.5")]


def draw_annealing(table: pd.DataFrame, figure: plt.Figure) -> None:
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


def judge_regret(table: pd.DataFrame) -> list[dict]:
    """Verdicts on regret and the theorem's failure."""
    adam = table[table["optimizer"] == "Adam"]
    late = adam[(adam["T"] >= adam["T"].max() / 20) & adam["problem"].isin(["dense", "sparse"])]
    slopes = late.groupby(["problem", "seed"])[["T", "average_regret"]].apply(
        lambda part: np.polyfit(np.log(part["T"].astype(float)), np.log(part["average_regret"].clip(lower=1e-12)), 1)[0]
    )
    slope = slopes.groupby("seed").max()
    switching = adam[(adam["problem"] == "switching") & (adam["T"] == adam["T"].max())].set_index("seed")["average_regret"]
    bound = (adam["average_regret"] / adam["average_bound"]).groupby(adam["seed"]).max()
    end = table[(table["problem"] == "counterexample") & (table["T"] == table["T"].max())].set_index("optimizer")["average_regret"]
    counter, amsgrad, large = (end[[name]] for name in ("Adam, small beta2", "AMSGrad, small beta2", "Adam, beta2 = 0.999"))
    regret = "average regret at the last T"
    return [
        line(
            "Average regret falls as O(1 / sqrt(T)), logistic regression on streams",
            "4",
            "slope on log-log axes, the flatter stream",
            slope,
            "<= -0.5",
        ),
        line("The same against an adversary who turns slopes around", "4", regret, switching, "< 0.05"),
        line("The bound of Theorem 4.1 is kept on these three streams", "4", "largest share of it that is used", bound, "<= 1"),
        line(
            "Adam converges on every convex problem within the theorem's assumptions",
            "4",
            f"{regret}, counterexample of 2018",
            counter,
            "< 0.05",
        ),
        line("Ours: AMSGrad converges there", "4", regret, amsgrad, "< 0.05"),
        line("Ours: so does Adam with beta2 = 0.999", "4", regret, large, "< 0.05"),
    ]


def draw_regret(table: pd.DataFrame, figure: plt.Figure) -> None:
    """Draws regret and the theorem's failure."""
    problems = list(dict.fromkeys(table["problem"]))
    for axis, problem in zip(figure.subplots(1, len(problems)), problems, strict=True):
        lowest = 0.0
        for optimizer, part in table[table["problem"] == problem].groupby("optimizer", sort=False):
            mean = part.groupby("T")["average_regret"].mean()
            lowest = min(lowest, mean.min())
            colour = (plots.COLOURS | {"SGD": "#999933", "AMSGrad": "#332288"})[optimizer.partition(",")[0]]
            axis.plot(mean.index, mean, ":" if "small" in optimizer else "-", marker=".", color=colour, label=optimizer)
        times = np.array([table["T"].min(), table["T"].max()])
        axis.plot(times, np.sqrt(times[0] / times), color="black", linestyle="--", linewidth=0.8, label="1 / sqrt(T)")
        axis.set(xscale="log", yscale="log", xlabel="T", ylabel="average regret", title=problem)
        if lowest < 0:  # better than the best fixed point, which an optimizer that moves can be
            axis.set_yscale("symlog", linthresh=0.1)
            axis.axhspan(-0.1, 0.1, color="grey", alpha=0.1, linewidth=0)
            axis.set_title(f"{problem} (grey: linear axis)")
        axis.legend(fontsize=7)


def judge_kinship(table: pd.DataFrame) -> list[dict]:
    """Verdicts on the limits towards AdaGrad and RMSProp."""

    def closest(relative: str, corrected: bool) -> pd.Series:
        part = table[(table["relative"] == relative) & (table["bias_correction"] == corrected)]
        return part[part["away"] == part["away"].min()].set_index("seed")["distance"]

    adagrad, bare, same = closest("AdaGrad", True), closest("AdaGrad", False), closest("RMSProp", False)
    averaged = closest("RMSProp with averaged gradients", False)
    momentum = table[(table["relative"] == "RMSProp with momentum") & ~table["bias_correction"]].groupby("seed")["distance"].min()
    quantity = f"largest distance between the paths over the way, 1 - beta2 = {table['away'].min():g}"
    nearest = "largest distance between the paths over the way, at the nearest beta2"
    return [
        line("With beta1 = 0 and alpha / sqrt(t) Adam tends to AdaGrad as beta2 -> 1", "5", quantity, adagrad, "< 0.0001"),
        line("Without bias correction it does not: steps grow without bound", "5", quantity, bare, "> 1"),
        line("With beta1 = 0 and without correction Adam is RMSProp", "5", quantity, same, "< 1e-09"),
        line("Without correction Adam is RMSProp with averaged gradients", "5", quantity, averaged, "< 1e-09"),
        line("RMSProp with momentum is not Adam", "5", nearest, momentum, "> 0.01"),
    ]


def draw_kinship(table: pd.DataFrame, figure: plt.Figure) -> None:
    """Draws the limits towards AdaGrad and RMSProp."""
    axis = figure.subplots()
    for number, (relative, part) in enumerate(table.groupby("relative", sort=False)):
        for corrected, style in ((True, "-"), (False, "--")):
            mean = part[part["bias_correction"] == corrected].groupby("away")["distance"].mean()
            name = f"Adam{'' if corrected else ', uncorrected'} to {relative}"
            axis.plot(mean.index, mean, style, marker=".", color=f"C{number}", label=name)
    axis.set(xscale="log", yscale="log", xlabel="1 - beta2", ylabel="largest distance between the paths, relative")
    axis.set_title("How far Adam's path is from AdaGrad's and RMSProp's", fontsize=10)
    axis.legend(fontsize=8)


def at_best_lr(table: pd.DataFrame, problem: str) -> pd.DataFrame:
    """For each optimizer its runs at the step size with the least error, mean over seeds."""
    part = table[table["problem"] == problem]
    best = part.groupby(["optimizer", "lr"])["error"].mean().groupby("optimizer").idxmin()
    return pd.concat(part[(part["optimizer"] == optimizer) & (part["lr"] == lr)] for optimizer, lr in best)


def judge_tracking(table: pd.DataFrame) -> list[dict]:
    """Verdicts on drifting targets and rare features."""
    drifting, sparse = (at_best_lr(table, problem).set_index(["seed", "optimizer"]) for problem in ("drifting", "sparse"))

    def ratio(part: pd.DataFrame, name: str, other: str, column: str) -> pd.Series:
        wide = part[column].unstack()
        return wide[name] / wide[other]

    follow = ratio(drifting, "Adam", "AdaGrad", "other_error")
    rare, adagrad = (ratio(sparse, "Adam", other, "other_error") for other in ("SGDNesterov", "AdaGrad"))

    late = "error of Adam in the last tenth over AdaGrad's, step sizes those that are best in the second"
    rare_ones = "error of Adam on rare features over {}'s, each at the step size best for all features"
    return [
        line("Adam is suited to non-stationary objectives, where AdaGrad's steps die out", "1, 3", late, follow, "< 1"),
        line("Adam is suited to sparse gradients, better than SGD", "1, 3", rare_ones.format("SGDNesterov"), rare, "< 1"),
        line("Adam is as good with sparse gradients as AdaGrad", "1, 5", rare_ones.format("AdaGrad"), adagrad, "< 1"),
    ]


def draw_tracking(table: pd.DataFrame, figure: plt.Figure) -> None:
    """Draws drifting targets and rare features."""
    panels = (
        ("drifting", "error", "drifting target, second tenth of the steps"),
        ("drifting", "other_error", "last tenth: at one step size AdaGrad falls behind"),
        ("sparse", "error", "Zipf features"),
        ("sparse", "other_error", "rare ones alone"),
    )
    for axis, (problem, column, title) in zip(figure.subplots(1, 4), panels, strict=True):
        judged = at_best_lr(table, problem).groupby("optimizer")[["lr", column]].mean()
        for optimizer, part in table[table["problem"] == problem].groupby("optimizer"):
            mean = part.groupby("lr")[column].mean()
            mean = mean[mean < 10]
            axis.plot(mean.index, mean, marker=".", color=plots.COLOURS[optimizer], label=optimizer)
            axis.plot(*judged.loc[optimizer], "o", markersize=9, fillstyle="none", color=plots.COLOURS[optimizer])
        axis.set(xscale="log", yscale="log", xlabel="step size", ylabel="error")
        axis.set_title(title, fontsize=10)
    axis.plot([], [], "o", markersize=9, fillstyle="none", color="black", label="judged: best in the left of each pair")
    axis.legend(fontsize=8)
    means = table[table["problem"] == "drifting"].groupby(["optimizer", "lr"])[["error", "other_error"]].mean()
    best = {name: [f"{lr:g}" for _, lr in means.loc[[name]].idxmin()] for name in ("AdaGrad", "Adam")}
    best = "; ".join(f"{name}: {early} in the second tenth, {late} in the last" for name, (early, late) in best.items())
    figure.suptitle(f"Best step sizes on the drifting target. {best}. AdaGrad's steps shrink, so its best step size grows.", fontsize=10)


def judge_norms(table: pd.DataFrame) -> list[dict]:
    """Verdicts on the p-norms and their limit."""
    exact = table[(table["lost"] == 0) & (table["dtype"] == "float64")]
    limit = exact[exact["p"] == exact["p"].max()].set_index("seed")["distance"]
    first_lost = table[(table["lost"] > 0) & (table["dtype"] == "float32")].groupby("seed")["p"].min().astype(float)
    first_lost = first_lost.reindex(limit.index, fill_value=np.inf)  # seeds in which none is
    distance = f"distance of the ends over the way, p = {exact['p'].max():g}, float64"
    smallest = "the smallest p at which coordinates are lost, float32"
    return [
        line("Adam with a p-norm tends to AdaMax as p grows", "7.1", distance, limit, "< 0.01"),
        line("For large p it is numerically unstable", "7.1", smallest, first_lost, f"<= {table['p'].max():g}"),
    ]


def draw_norms(table: pd.DataFrame, figure: plt.Figure) -> None:
    """Draws the p-norms and their limit."""
    distances, lost = figure.subplots(1, 2)
    for number, (dtype, part) in enumerate(table.groupby("dtype")):
        mean = part.groupby("p")[["distance", "lost"]].mean()
        distances.plot(mean.index, mean["distance"], marker=".", color=f"C{number}", label=dtype)
        lost.plot(mean.index, mean["lost"], marker=".", color=f"C{number}", label=dtype)
    distances.set(xscale="log", yscale="log", xlabel="p", ylabel="distance from AdaMax, relative to the way", title="Adam with a p-norm")
    lost.set(xscale="log", xlabel="p", ylabel="share of coordinates", title="Coordinates lost to the range of numbers")
    distances.legend(fontsize=8)


def judge_averaging(table: pd.DataFrame) -> list[dict]:
    """Verdicts on averages of the parameters."""
    lines = []
    last, first = table[table["t"] == table["t"].max()], table[table["t"] == table["t"].min()]
    for model in dict.fromkeys(table["model"]):
        cost = last[last["model"] == model].pivot(index="seed", columns="estimate", values="test_cost")
        for estimate in ("exponential", "Polyak-Ruppert"):
            share = cost[estimate] / cost["last iterate"]
            claim = f"Averaging generalises better than the last iterate: {estimate}, {model}"
            lines.append(line(claim, "7.2", "test cost over that of the last iterate", share, "< 1"))
    cost = first.pivot_table(index="seed", columns="estimate", values="test_cost")
    share = cost["exponential"] / cost["exponential, uncorrected"]
    claim = "The exponential average needs its bias correction"
    return [
        *lines,
        line(claim, "7.2", f"test cost over that without, t = {first['t'].iloc[0]}", share, "< 1"),
    ]


def draw_averaging(table: pd.DataFrame, figure: plt.Figure) -> None:
    """Draws averages of the parameters."""
    models = list(dict.fromkeys(table["model"]))
    for axis, model in zip(figure.subplots(1, len(models)), models, strict=True):
        for number, (estimate, part) in enumerate(table[table["model"] == model].groupby("estimate", sort=False)):
            by_time = part.groupby("t")["test_cost"]
            axis.plot(by_time.mean().index, by_time.mean(), color=f"C{number}", marker=".", label=estimate)
            axis.fill_between(by_time.mean().index, by_time.min(), by_time.max(), color=f"C{number}", alpha=0.2, linewidth=0)
        axis.set(xscale="log", yscale="log", xlabel="t", ylabel="test cost", title=model)
    axis.legend(fontsize=8)


def judge_adamax(root: Path) -> list[dict]:
    """AdaMax beside Adam on the tasks of the figures; one line for each panel and settings with both."""
    lines = []

    def judge(experiment: str, settings: str, quantity: str, costs: pd.DataFrame) -> None:
        costs = costs.dropna()  # seeds that both have
        share = np.exp(-lead(costs["AdaMax"], costs["Adam"]))
        verdicts = line(f"Ours: AdaMax gets as far as Adam, {experiment}", "7.1", quantity, share, "< 1.05")
        command = f"python run.py -m experiment={experiment} settings={settings} optimizer=adam,adamax"
        lines.append({"property": "AdaMax", **verdicts, "settings": settings, "command": command})

    panels = ("fig1_left", "fig1_right", "fig2a", "fig2b", "fig3", "fig3_dropout")
    for experiment, settings in itertools.product(panels, ("paper", "best")):
        table = runs(root, experiment, settings)
        table = table[table["optimizer"].isin(["Adam", "AdaMax"])] if not table.empty else table
        if table.empty or table["optimizer"].nunique() < 2:
            continue
        passes = table.groupby("optimizer")["pass"].max().min()
        last = table[table["pass"] == passes].pivot(index="seed", columns="optimizer", values="cost")
        judge(experiment, settings, f"training cost over Adam's, pass {passes}", last)
    sweep = sweeps(root, "paper")
    if not sweep.empty and {"Adam", "AdaMax"} <= set(sweep["optimizer"]):
        losses = measured(sweep).query("bias_correction and epochs == 10")
        lowest = losses.groupby(["seed", "optimizer"])["loss"].min().unstack().dropna()
        judge("fig4", "paper", "lowest loss of the corrected sweep over Adam's, pass 10", lowest)
    return lines


# In the order of the paper's sections: how each is judged and drawn, and the width of its picture.
PROPERTIES: dict[str, tuple[Callable[[pd.DataFrame], list[dict]], Callable[[pd.DataFrame, plt.Figure], None], float]] = {
    "invariance": (judge_invariance, draw_invariance, 6.4),
    "step_bounds": (judge_step_bounds, draw_step_bounds, 12.8),
    "annealing": (judge_annealing, draw_annealing, 12.8),
    "moments": (judge_moments, draw_moments, 6.4),
    "tracking": (judge_tracking, draw_tracking, 20),
    "regret": (judge_regret, draw_regret, 20),
    "kinship": (judge_kinship, draw_kinship, 6.4),
    "norms": (judge_norms, draw_norms, 12.8),
    "averaging": (judge_averaging, draw_averaging, 12.8),
}


def main() -> None:
    """Writes the table of verdicts and a picture for each property that has been measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="a folder of your own runs instead of the tracked ones; pictures and table go there too")
    own = parser.parse_args().runs
    verdicts = []
    for name, (judge, draw, width) in PROPERTIES.items():
        path = (own or REFERENCE) / "properties" / f"{name}.csv"
        table = read_table(path)
        if table is None:
            print(f"{name}: no table in {path.parent}: nothing to judge")
            continue
        figure = plt.figure(figsize=(width, 4.8), layout="constrained")
        draw(table, figure)
        if "data" in table and (table["data"] == "standin").any():
            figure.suptitle("STAND-IN DATA", color="red")
        plots.save(figure, (own or RESULTS) / "figures" / "properties" / name)
        verdicts += [
            {"property": name, **verdict, "command": f"python run.py --config-name properties property={name}"} for verdict in judge(table)
        ]
    verdicts += judge_adamax(own or REFERENCE)
    if verdicts:
        pd.DataFrame(verdicts).to_csv((own or RESULTS) / "properties.csv", index=False, float_format="%.4g")
        print(pd.DataFrame(verdicts)[["property", "claim", "value", "verdict"]].to_string(index=False, float_format="%.4g"))


if __name__ == "__main__":
    main()
