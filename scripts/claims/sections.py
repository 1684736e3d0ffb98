"""Claims of sections 6 and 7 on the experiments, judged in our runs and, where possible, in the paper's curves."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.analysis import figure4
from scripts.analysis.distances import lead
from scripts.analysis.published import last_shown, main_panel, panels, paper_curves
from scripts.analysis.race import races
from scripts.analysis.runs import REFERENCE, configuration, of_optimizer, read_runs, sfo_memory
from scripts.claims.figure4 import OURS, PAPER, all_claims
from scripts.claims.judging import HOLDS, OPEN, judge, stated

# Epochs after which "after a few epochs" is judged.
A_FEW = 10
EPS = 1e-8  # Algorithm 1


def comparisons(root: Path) -> list[dict]:
    """Returns a row for each comparison of claims.yaml and each of the settings with runs of all its optimizers."""
    lines = []
    for claim, settings in itertools.product(stated("comparisons"), ("paper", "best")):
        names, at = [*claim["ahead"], *claim["behind"]], claim["at"]
        table = of_optimizer(read_runs(root, claim["experiment"], settings), *names)
        if table.empty or table["optimizer"].nunique() < len(names):
            continue
        epochs = table.groupby("optimizer")["epoch"].max().min()
        if isinstance(at, int) and epochs < at:
            continue
        table = table[table["epoch"] <= epochs]
        costs = [of_seed.pivot(index="epoch", columns="optimizer", values="cost") for _, of_seed in table.groupby("seed")]
        leads = pd.Series([smallest_lead(one, claim) for one in costs if set(names) <= set(one)])
        curves, paper = paper_curves(claim["experiment"]), np.nan
        if len(curves):
            curves = curves.assign(epoch=curves["x"].astype(int) + 1)
            shown = curves.pivot(index="epoch", columns="optimizer", values="y")[names].dropna()
            paper = smallest_lead(shown if at == "mean" else shown.loc[:epochs], claim)
        when = {"mean": "mean over the epochs", "end": f"in epoch {epochs}"}.get(at, f"in epoch {at}")
        found = judge({**claim, "quantity": f"lead, ln(cost / cost), {when}"}, leads)
        if at == "end" and ends_early(claim["experiment"], epochs):
            found["verdict"] = OPEN
        command = f"python run.py -m experiment={claim['experiment']} optimizer={','.join(names)} settings={settings}"
        where = {"evidence": f"{root.name}/{claim['experiment']}/{settings}/", "command": command}
        lines.append(found | {"settings": settings, "paper": paper} | where)
    return lines


def ends_early(experiment: str, epochs: int) -> bool:
    """Returns whether so many epochs end before the paper's curves do."""
    panel = main_panel(experiment)
    return panel is not None and epochs <= last_shown(panel)


def smallest_lead(costs: pd.DataFrame, claim: dict) -> float:
    """Returns the smallest lead of all pairs of a claim in costs by epoch and optimizer; -inf if an optimizer of `ahead` diverged."""
    leads = [lead(costs[name], costs[other]) for name in claim["ahead"] for other in claim["behind"]]
    at = claim["at"]
    return min(one.mean() if at == "mean" else one.iloc[-1] if at == "end" else one.loc[at] for one in leads)


def sfo_claims(root: Path) -> list[dict]:
    """Returns a row for each of section 6.2's claims on SFO's speed, memory and dropout; memory is judged with the tracked runs."""
    lines, table = [], races(root)
    for settings in ("paper", "best"):
        found = table[table["settings"] == settings].set_index("optimizer") if len(table) else table
        if not {"Adam", "SFO"} <= set(found.index):
            continue
        command = f"python run.py -m experiment=fig2b settings={settings} optimizer=adam,sfo"
        where = {"settings": settings, "evidence": "fig2b_race.csv", "command": command, "seeds": found["seeds"].max()}
        for key, column in (("sfo_speed", "seconds_of_an_epoch"), ("sfo_race", "seconds_to_0.01")):
            ratio = pd.Series([found.loc["SFO", column] / found.loc["Adam", column]])
            lines.append(judge(stated(key), ratio) | where)
    sfo = of_optimizer(sfo_memory(), "SFO")
    if root == REFERENCE:
        explained = pd.Series([sfo["minibatches"].corr(sfo["bytes"]) ** 2])
        lines.append(judge(stated("sfo_memory"), explained) | {"evidence": "sfo_memory.csv", "command": "make bench-sfo"})
    dropout = of_optimizer(read_runs(root, "fig2a", "paper"), "SFO")
    if len(dropout):
        by_seed = dropout.groupby("seed")["cost"].agg(["first", "last"])
        epochs = dropout["epoch"].max()
        where = {"settings": "paper", "evidence": f"{root.name}/fig2a/paper/"}
        where["command"] = f"python run.py experiment=fig2a optimizer=sfo epochs={epochs}"
        judged = judge(stated("sfo_dropout"), by_seed["last"] / by_seed["first"], epochs=epochs) | where
        lines.append(judged | ({"verdict": OPEN} if ends_early("fig2a", epochs) else {}))
    return lines


def vanishing_moments(root: Path) -> list[dict]:
    """Returns a row for the claim that vhat vanishes, for each run of figure 3; open if a run is shorter than A_FEW epochs."""
    lines = []
    for experiment, settings in itertools.product(("fig3", "fig3_dropout"), ("paper", "best")):
        table = of_optimizer(read_runs(root, experiment, settings), "Adam")
        medians = [column for column in table if column.startswith("vhat_")]
        if not len(table) or not medians:
            continue
        epochs = table["epoch"].max()
        smallest = np.sqrt(table[table["epoch"] == epochs].set_index("seed")[medians].min(axis=1)) / EPS
        trained = configuration(root, experiment, "Adam", settings).get("eps")
        judged = judge(stated("vanishing_moments"), smallest, eps=EPS, experiment=experiment, epochs=epochs, trained=trained)
        if judged["verdict"] != HOLDS and epochs < A_FEW:
            judged["verdict"] = OPEN
        where = {"settings": settings, "evidence": f"{root.name}/{experiment}/{settings}/"}
        lines.append(judged | where | {"command": f"python run.py experiment={experiment} settings={settings} epochs={epochs}"})
    return lines


def bias_correction(root: Path) -> list[dict]:
    """Returns a row for each claim of section 6.4 on Adam: the share of the cells in both our runs and the paper's where it holds."""
    sweep, lines = figure4.sweeps(root, "paper"), []
    table = all_claims(figure4.measured(sweep), figure4.published()) if len(sweep) else pd.DataFrame()
    for (epochs, claim), judged in table.groupby(["epochs", "claim"], sort=False) if len(table) else ():
        cells = judged.pivot_table(index=["beta1", "beta2", "alpha"], columns="whose", values="holds", aggfunc="all", dropna=False)
        ours, paper = (cells[whose].dropna() if whose in cells else pd.Series(dtype=bool) for whose in (OURS, PAPER))
        if len(ours):
            ours, paper = ours[ours.index.isin(paper.index)], paper[paper.index.isin(ours.index)]
        share = pd.Series([ours.mean()], dtype=float)
        found = judge(stated("bias_correction"), share, sentence=claim, cells=len(ours) or len(paper), epochs=epochs)
        where = {"settings": "paper", "seeds": judged["seeds"].max(), "paper": paper.mean()}
        where |= {"evidence": "fig4_claims.csv", "command": "make reproduce-fig4"}
        lines.append(found | where | ({"verdict": OPEN} if ours.empty else {}))
    return lines


def adamax(root: Path) -> list[dict]:
    """Returns a row that compares AdaMax with Adam, for each panel and settings with both; open if the runs end early."""
    lines = []

    def compare(experiment: str, settings: str, quantity: str, costs: pd.DataFrame, early: bool = False) -> None:
        costs = costs.dropna()  # the seeds of both
        found = judge(stated("adamax"), np.exp(-lead(costs["AdaMax"], costs["Adam"])), experiment=experiment, what=quantity)
        command = f"python run.py -m experiment={experiment} settings={settings} optimizer=adam,adamax"
        where = {"settings": settings, "evidence": f"{root.name}/{experiment}/{settings}/", "command": command}
        lines.append(found | where | ({"verdict": OPEN} if early else {}))

    for experiment, settings in itertools.product(dict.fromkeys(panel.experiment for panel in panels()), ("paper", "best")):
        table = of_optimizer(read_runs(root, experiment, settings), "Adam", "AdaMax")
        if table.empty or table["optimizer"].nunique() < 2:
            continue
        epochs = table.groupby("optimizer")["epoch"].max().min()
        last = table[table["epoch"] == epochs].pivot(index="seed", columns="optimizer", values="cost")
        compare(experiment, settings, f"training cost over Adam's, epoch {epochs}", last, ends_early(experiment, epochs))
    sweep = figure4.sweeps(root, "paper")
    if not sweep.empty and {"Adam", "AdaMax"} <= set(sweep["optimizer"]):
        losses = figure4.measured(sweep).query("bias_correction and epochs == 10")
        lowest = losses.groupby(["seed", "optimizer"])["loss"].min().unstack().dropna()
        compare("fig4", "paper", "lowest loss of the corrected sweep over Adam's, epoch 10", lowest)
    return lines
