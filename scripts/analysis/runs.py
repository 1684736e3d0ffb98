"""Our runs: the canonical ones, and their tables."""

from pathlib import Path

import numpy as np
import pandas as pd

from experiments.records import Run, catalogue
from scripts.analysis.published import RESULTS, main_panel

REFERENCE, RUNS = RESULTS / "reference", RESULTS / "runs"


def canonical_runs(root: Path, experiment: str, settings: str, data: str = "real") -> list[Run]:
    """Returns one run per optimizer, used by figures, tables and claims.

    Candidates have default settings and the identity of the newest such run. Among them the longest wins, then the one with the most
    seeds, then an unsharded one, then the newest.
    """
    found: dict[str, list[Run]] = {}
    for run in sorted(catalogue(root), key=lambda run: run.session["started"]):
        if (run.experiment, run.settings, run.data) == (experiment, settings, data) and run.has_default_settings:
            found.setdefault(run.optimizer, []).append(run)
    alike = [[run for run in runs if run.identity == runs[-1].identity] for _, runs in sorted(found.items())]
    return [max(runs, key=_extent) for runs in alike]


def canonical_run(root: Path, experiment: str, optimizer: str, settings: str = "paper") -> Run | None:
    """Returns the canonical run of one optimizer, or None."""
    return next((run for run in canonical_runs(root, experiment, settings) if run.optimizer == optimizer), None)


def _extent(run: Run) -> tuple:
    extent = run.extent
    seeds = extent.get("seed", extent.get("seeds"))  # `seeds` of a property
    return extent.get("epochs"), len(seeds) if isinstance(seeds, list) else 1, extent.get("shard") is None, run.session["started"]


def shown_costs(run: Run) -> pd.DataFrame:
    """Returns the table of a run with `cost` as its panel shows it: plus the penalty, where the published cost seems to include it.

    `without_penalty` is the cost as recorded. The penalty changes slowly and is interpolated between evaluated epochs.
    """
    table, panel = run.table(), main_panel(run.experiment)
    table["without_penalty"] = table["cost"]
    if panel and panel.penalty:
        by_member = table.groupby("member")["penalty"]
        table["cost"] += by_member.transform(lambda penalty: penalty.interpolate(limit_direction="both")).fillna(0)  # NaN: diverged
    return table


def read_runs(root: Path, experiment: str, settings: str, data: str = "real") -> pd.DataFrame:
    """Returns the concatenated tables of the canonical runs, as from `shown_costs`; empty and without columns if there are none."""
    tables = [shown_costs(run) for run in canonical_runs(root, experiment, settings, data)]
    return pd.concat(tables) if tables else pd.DataFrame()


def canonical_measurements(root: Path) -> dict[str, Run]:
    """Returns one measurement with default settings per property: on real data if possible, then with most seeds, then the newest."""
    found = [run for run in catalogue(root) if run.measured and run.has_default_settings]
    return {run.measured: run for run in sorted(found, key=lambda run: (run.data == "real", *_extent(run)))}


def read_measured(root: Path, name: str) -> pd.DataFrame | None:
    """Returns the table of the canonical measurement of a property; None if there is none."""
    run = canonical_measurements(root).get(name)
    return run.table() if run else None


def sfo_memory() -> pd.DataFrame:
    """Returns the tracked measurements of `make bench-sfo`: a row per optimizer and number of minibatches."""
    return pd.read_csv(RESULTS / "sfo_memory.csv")


def configuration(root: Path, experiment: str, optimizer: str, settings: str = "paper") -> dict[str, str]:
    """Returns the identity and extent of a canonical run as strings, by `short` keys; empty if there is no such run."""
    run = canonical_run(root, experiment, optimizer, settings)
    flat = pd.json_normalize(run.identity | run.extent).iloc[0] if run else pd.Series(dtype=object)
    return {short(key): str(value) for key, value in flat.items()}


def short(key: str) -> str:
    """Returns a key without its group: lr for optimizer.lr, initial_std.hidden for model.initial_std.hidden."""
    return key.partition(".")[2] or key


def of_optimizer(table: pd.DataFrame, *optimizers: str) -> pd.DataFrame:
    """Returns the rows of some optimizers; accepts an empty table without columns."""
    return table[table["optimizer"].isin(optimizers)] if not table.empty else table


def by_time(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with `x` replaced by training time in mean epochs of Adam; the first point is at 0, as in the paper.

    Empty without runs of Adam, or if runs are from several machines, whose seconds cannot be compared.
    """
    adam = of_optimizer(table, "Adam")
    if adam.empty or table["machine"].nunique() > 1:
        return pd.DataFrame()
    unit = (adam["seconds"] / adam["epoch"]).iloc[-1]
    return table.assign(x=(table["seconds"] - table.groupby("optimizer")["seconds"].transform("min")) / unit)


def diverged(table: pd.DataFrame) -> int:
    """Returns the number of diverged members."""
    return int(np.isinf(table["cost"]).groupby(table["member"].to_numpy()).any().sum())
