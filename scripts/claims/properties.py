"""Claims that the paper makes without a figure, judged from the tables of experiments/properties.

Each function yields the claims of one property: the key in claims.yaml, the values by seed, and the facts that fill in the claim's {names}.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.analysis.runs import read_measured
from scripts.claims.judging import judge, stated

Measurements = Iterator[tuple[str, pd.Series, dict]]


def invariance(table: pd.DataFrame) -> Measurements:
    """Yields the claims on invariance to diagonal rescaling."""
    widest = table[table["factor"] == table["factor"].max()]
    ours = widest[widest["optimizer"].isin(["Adam", "AdaMax"])]
    facts = {"factor": widest["factor"].iloc[0], "eps": ours.loc[ours["eps"] > 0, "eps"].min()}
    for key, eps in (("without_eps", 0.0), ("with_eps", facts["eps"])):
        yield key, ours[ours["eps"] == eps].groupby("seed")["drift"].max(), facts


def step_bounds(table: pd.DataFrame) -> Measurements:
    """Yields the claims on the bounds of a step."""
    over_paper, over_exact = (table["largest"] / table[f"{bound}_bound"] for bound in ("paper", "exact"))
    for key, optimizer in (("adam", "Adam"), ("adamax", "AdaMax")):
        chosen = table["optimizer"] == optimizer
        yield key, over_paper[chosen].groupby(table["seed"]).max(), {}
    adam = table[table["optimizer"] == "Adam"]
    usual = adam[(adam["kind"] == "dense") & (adam["beta1"] == 0.9) & (adam["beta2"] == 0.999)]
    yield "usual", usual.groupby("seed")["largest"].max(), {}
    single = adam[(adam["kind"] == "single") & (adam["paper_bound"] > 1)]
    yield "attained", (single["largest"] / single["paper_bound"]).groupby(single["seed"]).max(), {}
    yield "exact", over_exact.groupby(table["seed"]).max(), {}


def annealing(table: pd.DataFrame) -> Measurements:
    """Yields the claim on annealing near an optimum."""
    first, last = table[table["t"] == table["t"].min()], table[table["t"] == table["t"].max()]
    near, far = (part.set_index("seed")["q50"] for part in (last[last["start"] == "zero"], first[first["start"] == "far"]))
    yield "near_an_optimum", near / far, {}


def moments(table: pd.DataFrame) -> Measurements:
    """Yields the claims on the bias of second moments."""
    still, drifting = table[table["drift"] == 0], table[table["drift"] != 0]
    last = drifting[drifting["t"] == drifting["t"].max()]
    yield "recursion", still.groupby("seed")["recursion_error"].max(), {}
    yield "uncorrected", (still["v"] / still["without_zeta"]).groupby(still["seed"]).mean(), {}
    yield "corrected", still.groupby("seed")["vhat"].mean(), {}
    yield "zeta", (drifting["v"] / drifting["expected"]).groupby(drifting["seed"]).mean(), {}
    yield "small_zeta", np.abs(np.log(last["vhat"])).groupby(last["seed"]).max(), {}


def tracking(table: pd.DataFrame) -> Measurements:
    """Yields the claims on drifting targets and rare features."""
    late, rare = (
        at_best_lr(table, judged).query("metric == @metric").set_index(["seed", "optimizer"])["error"].unstack()
        for judged, metric in (("second tenth", "last tenth"), ("all features", "rare features"))
    )
    yield "drifting", late["Adam"] / late["AdaGrad"], {}
    yield "sparse", rare["Adam"] / rare["SGDNesterov"], {}
    yield "adagrad", rare["Adam"] / rare["AdaGrad"], {}


def at_best_lr(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Returns the rows of a metric's problem: of each optimizer at the learning rate whose mean metric over seeds is smallest."""
    judged = table[table["metric"] == metric]
    part = table[table["problem"] == judged["problem"].iloc[0]]
    best = judged.groupby(["optimizer", "lr"])["error"].mean().groupby("optimizer").idxmin()
    return pd.concat(part[(part["optimizer"] == optimizer) & (part["lr"] == lr)] for optimizer, lr in best)


def regret(table: pd.DataFrame) -> Measurements:
    """Yields the claims on regret and the counterexample."""
    adam = table[table["optimizer"] == "Adam"]
    late = adam[(adam["T"] >= adam["T"].max() / 20) & adam["problem"].isin(["dense", "sparse"])]
    slopes = late.groupby(["problem", "seed"])[["T", "average_regret"]].apply(
        lambda part: np.polyfit(np.log(part["T"].astype(float)), np.log(part["average_regret"].clip(lower=1e-12)), 1)[0]
    )
    yield "slope", slopes.groupby("seed").max(), {}
    switching = adam[(adam["problem"] == "switching") & (adam["T"] == adam["T"].max())]
    yield "switching", switching.set_index("seed")["average_regret"], {}
    yield "bound", (adam["average_regret"] / adam["average_bound"]).groupby(adam["seed"]).max(), {}
    end = table[(table["problem"] == "counterexample") & (table["T"] == table["T"].max())].set_index("optimizer")["average_regret"]
    for key, optimizer in (
        ("counterexample", "Adam, small beta2"), ("amsgrad", "AMSGrad, small beta2"), ("large_beta2", "Adam, beta2 = 0.999"),
    ):  # fmt: skip
        yield key, end[[optimizer]], {}


def kinship(table: pd.DataFrame) -> Measurements:
    """Yields the claims on the limits towards AdaGrad and RMSProp."""
    nearest = table["one_minus_beta2"].min()
    for key, relative, corrected in (
        ("adagrad", "AdaGrad", True), ("uncorrected", "AdaGrad", False), ("rmsprop", "RMSProp", False),
        ("averaged", "RMSProp with averaged gradients", False),
    ):  # fmt: skip
        part = table[(table["relative"] == relative) & (table["bias_correction"] == corrected)]
        closest = part[part["one_minus_beta2"] == part["one_minus_beta2"].min()]
        yield key, closest.set_index("seed")["distance"], {"nearest": nearest}
    momentum = table[(table["relative"] == "RMSProp with momentum") & ~table["bias_correction"]]
    yield "momentum", momentum.groupby("seed")["distance"].min(), {}


def norms(table: pd.DataFrame) -> Measurements:
    """Yields the claims on p-norms and their limit."""
    exact = table[(table["lost"] == 0) & (table["dtype"] == "float64")]
    limit = exact[exact["p"] == exact["p"].max()].set_index("seed")["distance"]
    yield "limit", limit, {"p": exact["p"].max()}
    first_lost = table[(table["lost"] > 0) & (table["dtype"] == "float32")].groupby("seed")["p"].min().astype(float)
    yield "unstable", first_lost.reindex(limit.index, fill_value=np.inf), {"largest": table["p"].max()}  # inf: no coordinate is lost


def averaging(table: pd.DataFrame) -> Measurements:
    """Yields the claims on averages of the parameters."""
    last, first = table[table["t"] == table["t"].max()], table[table["t"] == table["t"].min()]
    for model in dict.fromkeys(table["model"]):
        cost = last[last["model"] == model].pivot(index="seed", columns="estimate", values="test_cost")
        for estimate in ("exponential", "Polyak-Ruppert"):
            yield "better", cost[estimate] / cost["last iterate"], {"estimate": estimate, "model": model}
    cost = first.pivot_table(index="seed", columns="estimate", values="test_cost")
    yield "corrected", cost["exponential"] / cost["exponential, uncorrected"], {"t": first["t"].iloc[0]}


def property_claims(root: Path) -> list[dict]:
    """Returns a row for each claim on a property that was measured under `root`."""
    lines = []
    for name, claims in stated("properties").items():
        table = read_measured(root, name)
        for key, values, facts in globals()[name](table) if table is not None else ():
            where = {"evidence": f"{root.name}/properties/{name}.csv", "command": f"python run.py --config-name properties property={name}"}
            lines.append(judge(claims[key], values, **facts) | where)
    return lines
