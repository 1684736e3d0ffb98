"""Runs with made-up costs, for the scripts that read runs."""

from pathlib import Path

import numpy as np
import pandas as pd

from experiments.records import Run
from scripts.analysis import figure4

OPTIMIZER = {"_target_": "optim.Adam", "lr": 0.001}
SESSION = {"commit": "c", "uncommitted_changes": False, "processor": "P", "threads": 1, "started": "2026-01-01"}


def write_table(
    root: Path, optimizer: str, rows: list[dict], epochs: int, experiment="fig1_left", settings="paper", data="real", seeds=(0, 1),
    overrides=(), identity=None, started="2026-01-01", seconds=(), shard=None, dirty=False, commit="c", hyperparameters=(),
) -> Path:  # fmt: skip
    """Writes a run with these rows; returns its CSV."""
    config = {"schedule": "constant", "data": {}, "optimizer": OPTIMIZER, "results": str(root)} | (identity or {})
    config |= {"epochs": epochs, "seed": list(seeds), "shard": shard}
    run = Run.of(config, overrides, experiment=experiment, settings=settings, optimizer=optimizer, data=data)
    session = SESSION | {"commit": commit, "started": started, "uncommitted_changes": dirty}
    facts = {"hyperparameters": list(hyperparameters), "seconds_after_epoch": list(seconds), "sessions": [session]}
    run.write(pd.DataFrame(rows), facts)
    return run.csv


def write_run(root: Path, optimizer: str, costs, experiment="fig1_left", settings="paper", seeds=(0, 1), columns=None, **facts) -> Path:
    """Writes a run whose cost in epoch p is costs[p - 1], higher by 1 % for each later seed; returns its CSV.

    Args:
        columns: further columns and their value.
        facts: as for `write_table`.
    """
    rows = [
        {"member": member, "seed": seed, "epoch": number, "cost": cost * (1 + member / 100), "train_cost": cost, "penalty": 0.5}
        | (columns or {})
        for member, seed in enumerate(seeds)
        for number, cost in enumerate(costs, 1)
    ]
    return write_table(root, optimizer, rows, len(costs), experiment, settings, seeds=seeds, **facts)


def write_sweep(root: Path, change, epochs=(10, 100), settings="paper", **facts) -> None:
    """Writes runs with the published losses of figure 4, changed by `change(loss, row)`; 400 (or nearly so) becomes infinite."""
    given = figure4.SETTINGS[1:]
    paper, losses = figure4.published().drop_duplicates(given), figure4.published().set_index(figure4.SETTINGS)["loss"]
    for experiment, last in figure4.EPOCHS.items():
        if last not in epochs:
            continue
        rows = []
        for member, row in enumerate(paper.itertuples()):
            loss = losses.get((last, *(getattr(row, key) for key in given)), 400.0)
            cost = np.inf if loss > 399 else change(loss, row)
            exploded = 2e10 if cost == np.inf or row.alpha == 1e-2 else 200.0
            shared = {"member": member, "seed": 0, "lr": row.alpha} | {key: getattr(row, key) for key in given[:-1]}
            rows += [shared | {"epoch": number, "cost": value} for number, value in {1: exploded, 10: exploded, last: cost}.items()]
        names = ["lr", *given[:-1]]
        write_table(root, "Adam", rows, last, experiment, settings, seeds=(0,), hyperparameters=names, **facts)
