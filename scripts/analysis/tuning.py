"""The tuning tables, results/tuning/*.csv: a row per trained member of a grid or candidate.

Besides COLUMNS, a table has a column per setting that was tried, by short key. An empty cell means the tracked run's value.
"""

from pathlib import Path

import pandas as pd

from scripts.analysis.published import RESULTS

COLUMNS = ("experiment", "optimizer", "settings", "seed", "epochs", "rms_log_ratio", "wiggle", "cost", "train_cost", "objective")
TUNING = RESULTS / "tuning"


def read_tuning(path: Path) -> pd.DataFrame:
    """Returns a tuning table; settings are strings, or NaN where not tried."""
    columns = pd.read_csv(path, nrows=0).columns
    return pd.read_csv(path, dtype={column: str for column in columns if column not in COLUMNS})


def tried(table: pd.DataFrame) -> list[str]:
    """Returns the columns of the settings that were tried."""
    return [column for column in table if column not in COLUMNS]
