"""Gathers every claim of the paper that can be tested, with a verdict, in results/claims.csv.

Claims on properties, figure 3 and figure 4 have been judged by scripts/properties.py, figure3.py and figure4.py, whose tables are read;
those of sections 6.1 and 6.2 are judged here, with `settings=paper` and with `settings=best`, and in the paper's own curves. There the
lead of an optimizer over another is ln(the other's cost / its own), averaged over the passes: 0.1 is about 10 %.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from curves import REFERENCE, RESULTS, published, runs
from properties import CONDITIONS, FAILS, HOLDS

COLUMNS = ("section", "claim", "settings", "quantity", "value", "lowest", "highest", "seeds", "paper", "verdict", "evidence", "command")
OPEN = "not run far enough"
# Leads that are smaller count as none; a large margin is at least the other.
EQUAL, LARGE = 0.05, 0.1


@dataclass(frozen=True)
class Comparison:
    """A claim that some optimizers get ahead of others, or as far.

    Attributes:
        section: of the paper.
        claim: in our words.
        experiment: whose costs are compared.
        first: the optimizers that are ahead.
        others: those behind.
        margin: by how much at least; 0: they are equal.
    """

    section: str
    claim: str
    experiment: str
    first: tuple[str, ...]
    others: tuple[str, ...]
    margin: float = EQUAL

    def lead(self, costs: pd.DataFrame) -> float:
        """The mean lead over passes, the smallest of all pairs; not a number where an optimizer has not been run.

        Args:
            costs: a column for each optimizer, a row for each pass.
        """
        pairs = [(name, other) for name in self.first for other in self.others]
        if any(name not in costs for pair in pairs for name in pair):
            return np.nan
        return min(np.log(costs[other] / costs[name]).dropna().mean() for name, other in pairs)

    def verdict(self, leads: np.ndarray) -> str:
        """From the leads of single seeds."""
        if self.margin == 0:
            leads, margin = -np.abs(leads), -EQUAL
        else:
            margin = self.margin
        return HOLDS if leads.min() > margin else FAILS if leads.max() < margin else CONDITIONS


OTHERS_2A = ("AdaGrad", "RMSProp", "SGDNesterov", "AdaDelta")
COMPARISONS = (
    Comparison("6.1", "MNIST: Adam converges as fast as SGDNesterov", "fig1_left", ("Adam",), ("SGDNesterov",), 0),
    Comparison("6.1", "MNIST: both converge faster than AdaGrad", "fig1_left", ("Adam", "SGDNesterov"), ("AdaGrad",)),
    Comparison("6.1", "IMDB, dropout: AdaGrad beats SGDNesterov by a large margin", "fig1_right", ("AdaGrad",), ("SGDNesterov",), LARGE),
    Comparison("6.1", "IMDB, dropout: Adam converges as fast as AdaGrad", "fig1_right", ("Adam",), ("AdaGrad",), 0),
    Comparison(
        "6.1",
        "IMDB, no dropout: AdaGrad beats SGDNesterov by a large margin",
        "fig1_right_no_dropout",
        ("AdaGrad",),
        ("SGDNesterov",),
        LARGE,
    ),
    Comparison("6.1", "IMDB, no dropout: Adam converges as fast as AdaGrad", "fig1_right_no_dropout", ("Adam",), ("AdaGrad",), 0),
    Comparison("6.2", "Network with dropout: Adam converges faster than all others", "fig2a", ("Adam",), OTHERS_2A),
    Comparison("6.2", "Network without dropout: Adam is ahead of SFO by passes", "fig2b", ("Adam",), ("SFO",)),
)


def line(
    section: str, claim: str, quantity: str, values, verdict: str, evidence: str, command: str, settings="paper", paper=np.nan
) -> dict:
    """A line of the ledger; `values` has one for each seed, `paper` is the paper's own."""
    values = np.atleast_1d(values)
    spread = {"value": values.mean(), "lowest": values.min(), "highest": values.max(), "seeds": len(values), "paper": paper}
    where = {"evidence": evidence, "command": command}
    return {"section": section, "claim": claim, "settings": settings, "quantity": quantity, **spread, "verdict": verdict, **where}


def compare(comparison: Comparison, root: Path) -> list[dict]:
    """A line for each of the settings under `root` that has runs of all the optimizers compared."""
    lines, experiment = [], comparison.experiment
    curves = published(experiment)
    paper = comparison.lead(curves.pivot(index="x", columns="optimizer", values="y")) if len(curves) else np.nan
    for settings in ("paper", "best"):
        table = runs(root, experiment, settings)
        if table.empty:
            continue
        leads = [comparison.lead(of_seed.pivot(index="pass", columns="optimizer", values="cost")) for _, of_seed in table.groupby("seed")]
        leads = np.array([lead for lead in leads if np.isfinite(lead)])
        if len(leads):
            optimizers = ",".join(map(_choice, comparison.first + comparison.others))
            where = f"reference/{experiment}/{settings}/", f"run.py -m experiment={experiment} settings={settings} optimizer={optimizers}"
            quantity = "lead, mean of ln(cost / cost) over the passes"
            verdict = comparison.verdict(leads)
            lines.append(line(comparison.section, comparison.claim, quantity, leads, verdict, *where, settings, paper))
    return lines


def _choice(optimizer: str) -> str:
    """The name of an optimizer on the command line."""
    return {"SGDNesterov": "sgd_nesterov"}.get(optimizer, optimizer.lower())


def sfo_claims(folder: Path, root: Path) -> list[dict]:
    """What section 6.2 says of SFO's seconds, memory and dropout, from the tables in `folder` and the runs under `root`."""
    lines = []
    race = (
        pd.read_csv(folder / "fig2b_race.csv") if (folder / "fig2b_race.csv").exists() else pd.DataFrame(columns=["settings", "optimizer"])
    )
    race = race[race["settings"] == "paper"].set_index("optimizer")
    if {"Adam", "SFO"} <= set(race.index):
        where = "fig2b_race.csv", "make reproduce-fig2"
        slower = race.loc["SFO", "passes_of_adam"]
        later = race.loc["SFO", "seconds_to_0.01"] / race.loc["Adam", "seconds_to_0.01"]
        seconds = "seconds of all seeds over Adam's, {}"
        claim = "SFO is 5 to 10 times slower per pass"
        lines.append(line("6.2", claim, seconds.format("of a pass"), slower, HOLDS if slower >= 5 else FAILS, *where))
        claim = "Adam is ahead of SFO by time"
        lines.append(line("6.2", claim, seconds.format("to a cost of 0.01"), later, HOLDS if later > 1 else FAILS, *where))
    memory = pd.read_csv(RESULTS / "sfo_memory.csv").query("optimizer == 'SFO'")
    explained = np.corrcoef(memory["minibatches"], memory["bytes"])[0, 1] ** 2
    claim, quantity = "SFO's memory is linear in the number of minibatches", "share of the variance that a line explains"
    lines.append(line("6.2", claim, quantity, explained, HOLDS if explained > 0.99 else FAILS, "sfo_memory.csv", "make bench-sfo"))
    dropout = _of(runs(root, "fig2a", "paper"), "SFO")
    if len(dropout):
        by_seed = dropout.groupby("seed")["cost"].agg(["first", "last"])
        share = by_seed["last"] / by_seed["first"]
        quantity = f"cost in pass {dropout['pass'].max()} over that in the first"
        where = "reference/fig2a/paper/SFO.csv", "run.py experiment=fig2a optimizer=sfo"
        lines.append(line("6.2", "With dropout SFO fails to converge", quantity, share, HOLDS if share.min() > 0.5 else FAILS, *where))
    return lines


def _of(table: pd.DataFrame, optimizer: str) -> pd.DataFrame:
    return table[table["optimizer"] == optimizer] if not table.empty else table


def figure_3(folder: Path, root: Path) -> list[dict]:
    """The claims of section 6.3: those on costs from fig3_claims.csv, and that vhat vanishes, from the runs under `root`."""
    lines = []
    if (folder / "fig3_claims.csv").exists():
        table = pd.read_csv(folder / "fig3_claims.csv")
        for (experiment, claim), judged in table.groupby(["experiment", "claim"], sort=False):
            ours, paper = judged[judged["source"] == "ours"].iloc[0], judged[judged["source"] == "paper"].sort_values("passes").iloc[-1]
            passes = f", in our {ours['passes']} passes" if ours["passes"] < paper["passes"] else ""
            where = "fig3_claims.csv", "make reproduce-fig3"
            verdict = OPEN if passes and " end" in claim else HOLDS if ours["holds"] else FAILS
            found = line("6.3", f"{claim} ({experiment}){passes}", "lead, ln(cost / cost)", ours["log_ratio"], verdict, *where)
            lines.append(found | {"seeds": int(ours["seeds"]), "paper": paper["log_ratio"]})
    for experiment in ("fig3", "fig3_dropout"):
        table = _of(runs(root, experiment, "paper"), "Adam")
        shares = [column for column in table if column.startswith("below_eps_")]
        if not len(table) or not shares:
            continue
        last = table[table["pass"] == table["pass"].max()].set_index("seed")[shares].max(axis=1)
        claim = f"vhat vanishes after a few passes and eps dominates ({experiment})"
        quantity = f"largest share of a layer's coordinates with sqrt(vhat) < eps, pass {table['pass'].max()}"
        verdict = HOLDS if last.min() > 0.5 else CONDITIONS if last.max() > 0.05 else FAILS
        lines.append(line("6.3", claim, quantity, last, verdict, f"reference/{experiment}/paper/", f"run.py experiment={experiment}"))
    return lines


def figure_4(folder: Path) -> list[dict]:
    """The claims of section 6.4, from fig4_claims.csv: in how many cells they hold for Adam after 10 passes."""
    if not (folder / "fig4_claims.csv").exists():
        return []
    lines = []
    for claim, judged in pd.read_csv(folder / "fig4_claims.csv").groupby("claim", sort=False):
        share, cells = judged.groupby("whose")["holds"].mean(), judged["whose"].value_counts()
        if "ours, Adam" in share:
            ours = share["ours, Adam"]
            verdict = HOLDS if ours == 1 else CONDITIONS if ours >= 0.5 else FAILS
            quantity = f"share of {cells['ours, Adam']} cells of the sweep"
            where = "fig4_claims.csv", "make reproduce-fig4"
            lines.append(line("6.4", f"Bias correction: {claim}", quantity, ours, verdict, *where, paper=share["the paper's points, Adam"]))
    return lines


def properties(folder: Path) -> list[dict]:
    """The claims without a figure, from properties.csv."""
    if not (folder / "properties.csv").exists():
        return []
    table = pd.read_csv(folder / "properties.csv", dtype={"section": "string"})
    settings = table["command"].str.extract(r"settings=(\w+)")[0]
    table["claim"] = table["claim"].str.replace(r", settings=\w+", "", regex=True)
    return table.assign(settings=settings, evidence="properties.csv").to_dict("records")


def ledger(folder: Path, root: Path) -> pd.DataFrame:
    """All claims, in the order of the paper's sections.

    Args:
        folder: of the tables that the other scripts have written.
        root: of the runs.
    """
    lines = [line for comparison in COMPARISONS for line in compare(comparison, root)]
    lines += [*sfo_claims(folder, root), *figure_3(folder, root), *figure_4(folder), *properties(folder)]
    return pd.DataFrame(lines, columns=list(COLUMNS)).sort_values("section", kind="stable", ignore_index=True)


def main() -> None:
    """Writes the ledger and prints the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="a folder of your own runs, and their tables, instead of the tracked ones")
    own = parser.parse_args().runs
    table = ledger(own or RESULTS, own or REFERENCE)
    table.to_csv((own or RESULTS) / "claims.csv", index=False, float_format="%.4g")
    print(table[["section", "claim", "settings", "value", "paper", "verdict"]].to_string(index=False, float_format="%.4g"))


if __name__ == "__main__":
    main()
