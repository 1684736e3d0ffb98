"""The verdict on one measurement of a claim."""

import operator
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pandas as pd
import yaml

HOLDS, FAILS, OPEN = "holds", "fails", "not run far enough"
SEEDS, LEARNING_RATES = "depends on the seed", "depends on the learning rates"
_COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@cache
def stated(*keys: str) -> Mapping:
    """Returns the section of claims.yaml under nested keys."""
    found = yaml.safe_load(Path(__file__).with_name("claims.yaml").read_text())
    for key in keys:
        found = found[key]
    return found


def meets(values: pd.Series, criterion: str) -> pd.Series:
    """Returns whether each value meets a criterion, such as `< 0.05` or `0.98 to 1.02`; NaN meets none."""
    first, *rest = criterion.split()
    if first in _COMPARISONS:
        return _COMPARISONS[first](values, float(rest[0]))
    return values.between(float(first), float(rest[1]))


def judge(claim: Mapping, values: pd.Series, **facts) -> dict:
    """Returns a row of claims.csv; it holds if the values of all seeds meet the criterion, fails if none does, and is open without values.

    `claim` has `section`, `claim`, `quantity` and `criterion`, as in claims.yaml, `facts` the values for its {names}.
    """
    criterion = claim["criterion"].format(**facts)
    met = meets(values, criterion)
    return {
        "section": claim["section"],
        "claim": claim["claim"].format(**facts),
        "quantity": claim["quantity"].format(**facts),
        "value": values.mean(),
        "lowest": values.min(),
        "highest": values.max(),
        "seeds": len(values),
        "criterion": criterion,
        "verdict": OPEN if met.empty else HOLDS if met.all() else SEEDS if met.any() else FAILS,
    }
