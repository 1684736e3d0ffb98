"""Our runs: which of them count, and their tables."""

from pathlib import Path

import numpy as np
import pandas as pd

from experiments.records import PROJECT, Run, catalogue

REFERENCE = PROJECT / "results" / "reference"
RUNS = PROJECT / "results" / "runs"


def canonical_runs(root: Path, experiment: str, settings: str, data: str = "real") -> list[Run]:
    """Returns one run for each optimizer: those that figures, tables and claims are about.

    Only runs with default settings count, and of these only runs with the identity of the newest. Of these the longest counts, then
    the one with most seeds, then an unsharded one, then the newest.
    """
    found: dict[str, list[Run]] = {}
    for run in sorted(catalogue(root), key=lambda run: run.session["started"]):
        if (run.experiment, run.settings, run.data) == (experiment, settings, data) and run.has_default_settings:
            found.setdefault(run.optimizer, []).append(run)
    alike = [[run for run in runs if run.identity == runs[-1].identity] for _, runs in sorted(found.items())]
    return [max(runs, key=_extent) for runs in alike]


def _extent(run: Run) -> tuple:
    seeds = run.extent["seed"]
    return run.extent["passes"], len(seeds) if isinstance(seeds, list) else 1, run.extent["shard"] is None, run.session["started"]


def read_runs(root: Path, experiment: str, settings: str, data: str = "real") -> pd.DataFrame:
    """Returns the tables of the canonical runs, one below the other; empty, without columns, where there are none."""
    tables = [run.table() for run in canonical_runs(root, experiment, settings, data)]
    return pd.concat(tables) if tables else pd.DataFrame()


def read_measured(root: Path, name: str) -> pd.DataFrame | None:
    """Returns the table of a measured property with default settings; one on real data comes first; None where there is none."""
    runs = [run for run in catalogue(root) if run.measured == name and run.has_default_settings]
    return min(runs, key=lambda run: run.data != "real").table() if runs else None


def configuration(root: Path, experiment: str, optimizer: str, settings: str = "paper") -> dict[str, str]:
    """Returns the identity of a canonical run as texts by short keys (see `short`); empty if there is no such run."""
    runs = [run for run in canonical_runs(root, experiment, settings) if run.optimizer == optimizer]
    flat = pd.json_normalize(runs[0].identity | runs[0].extent).iloc[0] if runs else pd.Series(dtype=object)
    return {short(key): str(value) for key, value in flat.items()}


def short(key: str) -> str:
    """Returns a key without its group: lr for optimizer.lr, initial_std.hidden for model.initial_std.hidden."""
    return key.partition(".")[2] or key


def of_optimizer(table: pd.DataFrame, *optimizers: str) -> pd.DataFrame:
    """Returns the rows of some optimizers; the table may be empty and have no columns."""
    return table[table["optimizer"].isin(optimizers)] if not table.empty else table


def by_time(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with training time for `x`, in mean epochs of Adam; the first point is at 0, as in the paper.

    Empty where Adam was not run, or not all ran on one machine: their seconds cannot be compared.
    """
    adam = of_optimizer(table, "Adam")
    if adam.empty or table["machine"].nunique() > 1:
        return pd.DataFrame()
    unit = (adam["seconds"] / adam["pass"]).iloc[-1]
    return table.assign(x=(table["seconds"] - table.groupby("optimizer")["seconds"].transform("min")) / unit)


def diverged(table: pd.DataFrame) -> int:
    """Returns how many members have diverged."""
    return int(np.isinf(table["cost"]).groupby(table["member"].to_numpy()).any().sum())
