"""The tables of all claims: every measurement, and one verdict per claim."""

from pathlib import Path

import numpy as np
import pandas as pd

from scripts.claims.judging import LEARNING_RATES, OPEN, SEEDS
from scripts.claims.properties import property_claims
from scripts.claims.sections import adamax, bias_correction, comparisons, sfo_claims, vanishing_moments

COLUMNS = (
    "section", "claim", "settings", "quantity", "value", "lowest", "highest", "seeds", "paper",
    "criterion", "verdict", "evidence", "command",
)  # fmt: skip


def ledger(root: Path) -> pd.DataFrame:
    """Returns every measurement of a claim in the runs below `root`, in the order of the paper's sections."""
    lines = [*comparisons(root), *sfo_claims(root), *vanishing_moments(root), *bias_correction(root)]
    lines += [*property_claims(root), *adamax(root)]
    table = pd.DataFrame(lines, columns=list(COLUMNS)).fillna({"settings": ""})
    return table.sort_values("section", kind="stable", ignore_index=True)


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per claim of `ledger`: `section`, `claim`, `verdict`, and `reason`, the measurements under each of the settings.

    A claim is open if the runs of at least one of its settings end too early. One that holds under some settings and fails under others
    depends on the learning rates, in which the settings differ.
    """
    lines = []
    for claim, judged in table.groupby("claim", sort=False):
        found = set(judged["verdict"])
        verdict = next((only for only in (OPEN, SEEDS) if only in found), LEARNING_RATES if len(found) > 1 else found.pop())
        reason = "; ".join(_measured(of_quantity) for _, of_quantity in judged.groupby(["quantity", "criterion"], sort=False))
        lines.append({"section": judged["section"].iloc[0], "claim": claim, "verdict": verdict, "reason": reason})
    return pd.DataFrame(lines, columns=["section", "claim", "verdict", "reason"])


def _measured(judged: pd.DataFrame) -> str:
    """Returns the values of one quantity under each of the settings: `lead: 0.71 (paper), -0.042 (best); criterion: > 0.05`."""
    values = []
    for row in judged.itertuples():
        one = np.isclose(row.lowest, row.highest, rtol=0.01) or np.isnan(row.lowest)
        settings = f" ({row.settings})" if row.settings else ""
        values.append(f"{row.value:.3g}{'' if one else f' [{row.lowest:.3g}, {row.highest:.3g}]'}{settings}")
    return f"{judged['quantity'].iloc[0]}: {', '.join(dict.fromkeys(values))}; criterion: {judged['criterion'].iloc[0]}"
