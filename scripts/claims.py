"""Gathers every claim of the paper that can be tested: each measurement in results/claims.csv, a verdict per claim in results/verdicts.csv.

Claims on properties, figure 3 and figure 4 have been judged by scripts/properties.py, figure3.py and figure4.py, whose tables are read;
those of sections 6.1 and 6.2 are judged here, with `settings=paper` and with `settings=best`, and in the paper's own curves, and so is
whether vhat vanishes. The lead of an optimizer over another is ln(the other's cost / its own), averaged over the passes: 0.1 is about 10 %.
"""

import argparse
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from curves import EQUAL, REFERENCE, RESULTS, as_read, configuration, lead, of_optimizer, published, runs
from properties import FAILS, HOLDS, SEEDS, line

COLUMNS = (
    "section", "claim", "settings", "quantity", "value", "lowest", "highest", "seeds", "paper",
    "criterion", "verdict", "evidence", "command",
)  # fmt: skip
# Whose points of figure 4 are judged, in fig4_claims.csv.
OURS_4, PAPER_4 = "ours, Adam", "the paper's points, Adam"
OPEN, STEP_SIZES = "not run far enough", "depends on the step sizes"
VERDICTS = (HOLDS, FAILS, STEP_SIZES, SEEDS, OPEN)
# A large margin is at least this lead.
LARGE = 0.1
# What should be so after a few passes is judged after so many.
A_FEW = 10
# That of Algorithm 1.
EPS = 1e-8


@dataclass(frozen=True)
class Comparison:
    """A claim that an optimizer gets ahead of others, or as far.

    Attributes:
        section: of the paper.
        claim: in our words.
        experiment: whose costs are compared.
        first: the optimizers that are ahead.
        others: those behind.
        margin: by how much at least; below 0: they may be behind by so much.
        at_end: whether the costs of the last pass count, instead of the mean over passes.
    """

    section: str
    claim: str
    experiment: str
    first: tuple[str, ...]
    others: tuple[str, ...]
    margin: float = EQUAL
    at_end: bool = False

    def lead(self, costs: pd.DataFrame) -> float:
        """The smallest lead of all pairs: mean over passes or at the end, minus infinity for one that diverged.

        Not a number where an optimizer has not been run.

        Args:
            costs: a column for each optimizer, a row for each pass.
        """
        if not {*self.first, *self.others} <= set(costs):
            return np.nan
        leads = [lead(costs[name], costs[other]) for name in self.first for other in self.others]
        return min(one.iloc[-1] if self.at_end else one.mean() for one in leads)

    @property
    def command(self) -> str:
        """What trains the runs that are compared, but for their settings."""
        choices = {"SGDNesterov": "sgd_nesterov"}
        optimizers = ",".join(choices.get(name, name.lower()) for name in self.first + self.others)
        return f"python run.py -m experiment={self.experiment} optimizer={optimizers}"


OTHERS_2A = ("AdaGrad", "RMSProp", "SGDNesterov", "AdaDelta")
COMPARISONS = (
    Comparison("6.1", "MNIST: Adam converges as fast as SGDNesterov", "fig1_left", ("Adam",), ("SGDNesterov",), -EQUAL),
    Comparison("6.1", "MNIST: both converge faster than AdaGrad", "fig1_left", ("Adam", "SGDNesterov"), ("AdaGrad",)),
    *(
        Comparison("6.1", f"IMDB, {dropout}: {claim}", experiment, *compared)
        for experiment, dropout in (("fig1_right", "dropout"), ("fig1_right_no_dropout", "no dropout"))
        for claim, *compared in (
            ("AdaGrad beats SGDNesterov by a large margin", ("AdaGrad",), ("SGDNesterov",), LARGE),
            ("Adam converges as fast as AdaGrad", ("Adam",), ("AdaGrad",), -EQUAL),
            ("Adam converges faster than SGDNesterov on sparse features", ("Adam",), ("SGDNesterov",)),
        )
    ),
    Comparison("6.2", "Network with dropout: Adam converges faster than all others", "fig2a", ("Adam",), OTHERS_2A),
    Comparison("6.2", "Network with dropout: Adam ends ahead of all others", "fig2a", ("Adam",), OTHERS_2A, at_end=True),
    Comparison("6.2", "Network without dropout: Adam is ahead of SFO by passes", "fig2b", ("Adam",), ("SFO",)),
)


def compare(comparison: Comparison, root: Path) -> list[dict]:
    """A line for each of the settings under `root` that has runs of all the optimizers compared."""
    lines, experiment = [], comparison.experiment
    curves = as_read(experiment)
    curves = curves[curves["optimizer"].isin(comparison.first + comparison.others)]
    paper = comparison.lead(curves.pivot(index="x", columns="optimizer", values="y").dropna()) if len(curves) else np.nan
    for settings in ("paper", "best"):
        table = runs(root, experiment, settings)
        if table.empty:
            continue
        table = table[table["optimizer"].isin(comparison.first + comparison.others)]
        table = table[table["pass"] <= table.groupby("optimizer")["pass"].max().min()]
        leads = [comparison.lead(of_seed.pivot(index="pass", columns="optimizer", values="cost")) for _, of_seed in table.groupby("seed")]
        leads = pd.Series(leads).dropna()
        if leads.empty:
            continue
        when = "in the last pass" if comparison.at_end else "mean over the passes"
        found = line(comparison.claim, comparison.section, f"lead, ln(cost / cost), {when}", leads, f"> {comparison.margin:g}")
        where = {"evidence": f"reference/{experiment}/{settings}/", "command": f"{comparison.command} settings={settings}"}
        lines.append(found | {"settings": settings, "paper": paper} | where)
    return lines


def sfo_claims(folder: Path, root: Path) -> list[dict]:
    """What section 6.2 says of SFO's seconds, memory and dropout, from the tables in `folder` and the runs under `root`."""
    lines = []
    race = _read(folder / "fig2b_race.csv")
    race = race[race["settings"].isin(["paper", "best"])].set_index(["optimizer", "settings"]) if len(race) else race
    if {"Adam", "SFO"} <= set(race.index.get_level_values(0)):  # trained twice, for their best settings are the paper's: two timings
        where = {"settings": "paper", "evidence": "fig2b_race.csv", "command": "make reproduce-fig2", "seeds": race["seeds"].max()}
        slower, later = (race.loc["SFO", column] / race.loc["Adam", column] for column in ("seconds_of_a_pass", "seconds_to_0.01"))
        for claim, quantity, ratios, criterion in (
            ("SFO is 5 to 10 times slower per pass", "of a pass", slower, "5 to 10"),
            ("Adam is ahead of SFO by time", "to a cost of 0.01", later, "> 1"),
        ):
            lines.append(line(claim, "6.2", f"seconds {quantity} over Adam's", ratios, criterion) | where)
    memory = _read(folder / "sfo_memory.csv")
    memory = memory[memory["optimizer"] == "SFO"] if len(memory) else memory
    if len(memory):
        explained = memory["minibatches"].corr(memory["bytes"]) ** 2
        claim, quantity = "SFO's memory is linear in the number of minibatches", "share of the variance that a line explains"
        where = {"evidence": "sfo_memory.csv", "command": "make bench-sfo"}
        lines.append(line(claim, "6.2", quantity, pd.Series([explained]), "> 0.99") | where)
    dropout = of_optimizer(runs(root, "fig2a", "paper"), "SFO")
    if len(dropout):
        by_seed = dropout.groupby("seed")["cost"].agg(["first", "last"])
        share = by_seed["last"] / by_seed["first"]
        passes, longest = dropout["pass"].max(), published("fig2a")["x"].max() + 1
        claim, quantity = f"With dropout SFO fails to converge, in {passes} passes", f"cost in pass {passes} over that in the first"
        command = "python run.py experiment=fig2a optimizer=sfo"
        where = {"settings": "paper", "evidence": "reference/fig2a/paper/SFO.csv", "command": command}
        judged = line(claim, "6.2", quantity, share, "> 0.5") | where
        lines.append(judged | ({"verdict": OPEN} if judged["verdict"] != HOLDS and passes < longest else {}))
    return lines


def _read(path: Path) -> pd.DataFrame:
    """The table at `path`; empty where there is none."""
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def figure_3(folder: Path) -> list[dict]:
    """The claims of section 6.3 on costs, from fig3_claims.csv; what our runs are too short for is not judged."""
    lines = []
    table = _read(folder / "fig3_claims.csv")
    ours, paper = (table[table["source"] == source] if len(table) else table for source in ("ours", "paper"))
    for (experiment, claim, settings), judged in ours.groupby(["experiment", "claim", "settings"], sort=False) if len(ours) else ():
        theirs = paper[(paper["experiment"] == experiment) & (paper["claim"] == claim)].set_index("passes")["log_ratio"]
        judged = judged.sort_values("passes").iloc[-1]
        passes = judged["passes"]
        quantity = f"lead, ln(cost / cost), in pass {passes}" if judged["at_end"] else "lead, ln(cost / cost), in the second pass"
        found = line(f"{claim} ({experiment})", "6.3", quantity, pd.Series([judged["log_ratio"]]), judged["criterion"])
        if judged["at_end"] and passes < theirs.index.max():
            found["verdict"] = OPEN
        command = "make reproduce-best" if settings == "best" else f"make reproduce-fig3 ARGS=passes={passes}"
        where = {"settings": settings, "evidence": "fig3_claims.csv", "command": command}
        lines.append(found | where | {"seeds": int(judged["seeds"]), "paper": theirs[passes]})
    return lines


def vanishing_moments(root: Path) -> list[dict]:
    """The claim of section 6.3 that vhat vanishes, from the runs under `root`; it is left open where they have less than A_FEW passes.

    Judged against the eps of Algorithm 1: that of the runs may itself be inferred from the curves.
    """
    lines = []
    for experiment, settings in itertools.product(("fig3", "fig3_dropout"), ("paper", "best")):
        table = of_optimizer(runs(root, experiment, settings), "Adam")
        medians = [column for column in table if column.startswith("vhat_")]
        if not len(table) or not medians:
            continue
        passes = table["pass"].max()
        smallest = np.sqrt(table[table["pass"] == passes].set_index("seed")[medians].min(axis=1)) / EPS
        claim = f"vhat vanishes after a few passes and eps = {EPS:g} dominates ({experiment})"
        trained = configuration(root, experiment, "Adam", settings).get("eps")
        quantity = f"smallest sqrt(median of vhat) of a layer over {EPS:g}, pass {passes}, trained with eps = {trained}"
        judged = line(claim, "6.3", quantity, smallest, "< 1")
        if judged["verdict"] != HOLDS and passes < A_FEW:
            judged["verdict"] = OPEN
        where = {"settings": settings, "evidence": f"reference/{experiment}/{settings}/"}
        where["command"] = f"python run.py experiment={experiment} settings={settings} passes={passes}"
        lines.append(judged | where)
    return lines


def figure_4(folder: Path) -> list[dict]:
    """The claims of section 6.4, from fig4_claims.csv: the share in which they hold, for Adam, of the cells that we and the paper have.

    What has not been run yet, after 100 passes, is not judged.
    """
    lines = []
    table = _read(folder / "fig4_claims.csv")
    for (epochs, claim), judged in table.groupby(["epochs", "claim"], sort=False) if len(table) else ():
        cells = judged.pivot_table(index=["beta1", "beta2", "alpha"], columns="whose", values="holds", aggfunc="all", dropna=False)
        ours, paper = (cells[whose].dropna() if whose in cells else pd.Series(dtype=bool) for whose in (OURS_4, PAPER_4))
        if len(ours):
            ours, paper = ours[ours.index.isin(paper.index)], paper[paper.index.isin(ours.index)]
        share = pd.Series([ours.mean()], dtype=float)
        quantity = f"share of {len(ours) or len(paper)} cells of the sweep, after {epochs} passes"
        where = {"settings": "paper", "seeds": judged["seeds"].max(), "paper": paper.mean()}
        where |= {"evidence": "fig4_claims.csv", "command": "make reproduce-fig4"}
        judged = line(f"Bias correction: {claim}", "6.4", quantity, share, ">= 1")
        lines.append(judged | where | ({"verdict": OPEN} if ours.empty else {}))
    return lines


def ledger(folder: Path, root: Path) -> pd.DataFrame:
    """All claims, in the order of the paper's sections.

    Args:
        folder: of the tables that the other scripts have written.
        root: of the runs.
    """
    lines = [judged for comparison in COMPARISONS for judged in compare(comparison, root)]
    lines += [*sfo_claims(folder, root), *figure_3(folder), *vanishing_moments(root), *figure_4(folder)]
    properties = _read(folder / "properties.csv").assign(evidence="properties.csv")
    table = pd.concat([pd.DataFrame(lines), properties]).reindex(columns=list(COLUMNS))
    return table.sort_values("section", kind="stable", ignore_index=True, key=lambda sections: sections.astype(str))


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """One line for each claim: `section`, `claim`, `verdict` and `reason`, what was measured with each of the settings.

    A claim that was not run far enough with one of the settings is left open. One that holds with some settings and fails with others
    depends on the step sizes, which are what the settings differ in.

    Args:
        table: from `ledger`.
    """
    lines = []
    for claim, judged in table.groupby("claim", sort=False):
        found = set(judged["verdict"])
        verdict = next((only for only in (OPEN, SEEDS) if only in found), STEP_SIZES if len(found) > 1 else found.pop())
        reason = "; ".join(_measured(of_quantity) for _, of_quantity in judged.groupby(["quantity", "criterion"], sort=False))
        lines.append({"section": judged["section"].iloc[0], "claim": claim, "verdict": verdict, "reason": reason})
    return pd.DataFrame(lines, columns=["section", "claim", "verdict", "reason"])


def _measured(judged: pd.DataFrame) -> str:
    """The values of one quantity, with each of the settings, and the criterion: `lead: 0.71 (paper), -0.042 (best); criterion > 0.05`."""
    values = []
    for row in judged.itertuples():
        one = np.isclose(row.lowest, row.highest, rtol=0.01) or np.isnan(row.lowest)
        settings = f" ({row.settings})" if isinstance(row.settings, str) and row.settings else ""
        values.append(f"{row.value:.3g}{'' if one else f' [{row.lowest:.3g}, {row.highest:.3g}]'}{settings}")
    return f"{judged['quantity'].iloc[0]}: {', '.join(dict.fromkeys(values))}; criterion: {judged['criterion'].iloc[0]}"


def main() -> None:
    """Writes both tables and prints the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="a folder of your own runs, and their tables, instead of the tracked ones")
    own = parser.parse_args().runs
    table = ledger(own or RESULTS, own or REFERENCE)
    if table.empty:
        sys.exit(f"error: {own} has no runs or tables that a claim could be judged by")
    table.to_csv((own or RESULTS) / "claims.csv", index=False, float_format="%.4g")
    found = verdicts(table)
    found.to_csv((own or RESULTS) / "verdicts.csv", index=False)
    print(found[["section", "claim", "verdict"]].to_string(index=False))


if __name__ == "__main__":
    main()
