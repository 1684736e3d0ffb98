"""Writes the tables of distances to the paper and of verdicts on its claims: `python -m scripts.tables [--runs results/runs]`."""

from pathlib import Path

import pandas as pd

from experiments.errors import one_sentence_errors
from scripts.analysis import figure4
from scripts.analysis.agreement import agreement, epochs_to_cost, final_costs, ranks
from scripts.analysis.published import panels
from scripts.analysis.race import races
from scripts.analysis.runs import REFERENCE, read_runs
from scripts.arguments import parser, places, write_table
from scripts.claims.figure4 import all_claims
from scripts.claims.ledger import ledger, verdicts
from scripts.tuning import unknowns

# The format of each table's floats.
DIGITS = {
    "agreement": "%.4f", "ranks": "%.4g", "epochs_to_cost": "%.4g", "final_costs": "%.5f", "fig2b_race": "%.4g", "fig4_points": "%.6g",
    "fig4_claims": "%.6g", "claims": "%.4g", "verdicts": "%.4g", "unknowns": "%.4g",
}  # fmt: skip


def all_tables(root: Path) -> dict[str, pd.DataFrame]:
    """Returns the nonempty tables of the runs under `root`, by name; `unknowns` for the tracked runs only."""
    shown = sorted(panels(), key=lambda panel: list(dict.fromkeys(one.published for one in panels())).index(panel.published))
    distances = [line for panel in shown for line in agreement(read_runs(root, panel.experiment, "paper"), panel)]
    tables = {"agreement": pd.DataFrame(distances), "ranks": ranks(root), "epochs_to_cost": epochs_to_cost(root)}
    tables |= {"final_costs": final_costs(root), "fig2b_race": races(root)}
    if len(sweep := figure4.sweeps(root, "paper")):
        ours, paper = figure4.measured(sweep), figure4.published()
        tables |= {"fig4_points": figure4.points(ours, paper), "fig4_claims": all_claims(ours, paper)}
    tables["claims"] = ledger(root)
    tables["verdicts"] = verdicts(tables["claims"])
    if root == REFERENCE:
        tables["unknowns"] = unknowns.ledger(tables["agreement"])
    return {name: table for name, table in tables.items() if len(table)}


def main() -> None:
    """Writes the tables, removes those that no longer have rows, and prints distances and verdicts."""
    with one_sentence_errors():
        root, folder = places(parser(__doc__).parse_args().runs)
        tables = all_tables(root)
        for name, digits in DIGITS.items():
            if name in tables:
                write_table(tables[name], folder / f"{name}.csv", digits)
            else:
                (folder / f"{name}.csv").unlink(missing_ok=True)
        if "agreement" in tables:
            columns = ["panel", "series", "seeds", "epochs", "rms_log_ratio", "largest_log_ratio"]
            print(tables["agreement"][columns].to_string(index=False, float_format="%.4f"))
        if "fig4_points" in tables:
            print(figure4.summary(tables["fig4_points"]))
        if "verdicts" in tables:
            print(tables["verdicts"][["section", "claim", "verdict"]].to_string(index=False))


if __name__ == "__main__":
    main()
