"""The tuning tables, results/tuning/*.csv: a row per trained member of a grid or candidate.

Besides COLUMNS, a table has a column per setting, by short key. A cell is empty where the setting has no effect.
"""

from pathlib import Path

import pandas as pd

from scripts.analysis.published import RESULTS

COLUMNS = ("experiment", "optimizer", "settings", "seed", "epochs", "rms_log_ratio", "wiggle", "cost", "train_cost", "objective")
TUNING = RESULTS / "tuning"


def read_tuning(path: Path) -> pd.DataFrame:
    """Returns a tuning table; settings are strings or NaN."""
    columns = pd.read_csv(path, nrows=0).columns
    texts = {column: str for column in columns if column not in COLUMNS}
    return pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""])  # "None" is a setting


def settings_columns(table: pd.DataFrame) -> list[str]:
    """Returns the columns of the settings."""
    return [column for column in table if column not in COLUMNS]
