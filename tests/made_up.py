"""Runs with made-up costs, for the scripts that read runs."""

from pathlib import Path

import pandas as pd

from experiments.records import Run

OPTIMIZER = {"_target_": "optim.Adam", "lr": 0.001}
SESSION = {"commit": "c", "uncommitted_changes": False, "processor": "P", "threads": 1, "started": "2026-01-01"}


def write_run(
    root: Path, optimizer: str, costs, experiment="fig1_left", settings="paper", data="real", seeds=(0, 1), overrides=(), identity=None,
    started="2026-01-01", seconds=(), shard=None, dirty=False, **columns,
) -> Path:  # fmt: skip
    """Writes a run whose cost in epoch p is costs[p - 1], higher by 1 % for each later seed; returns its CSV."""
    config = {"schedule": "constant", "data": {}, "optimizer": OPTIMIZER, "results": str(root)} | (identity or {})
    config |= {"passes": len(costs), "seed": list(seeds), "shard": shard}
    run = Run.of(config, overrides, experiment=experiment, settings=settings, optimizer=optimizer, data=data)
    rows = [
        {"member": member, "seed": seed, "pass": number, "cost": cost * (1 + member / 100), "train_cost": cost, "penalty": 0.5, **columns}
        for member, seed in enumerate(seeds)
        for number, cost in enumerate(costs, 1)
    ]
    session = SESSION | {"started": started, "uncommitted_changes": dirty}
    run.write(pd.DataFrame(rows), {"hyperparameters": [], "seconds_after_pass": list(seconds), "sessions": [session]})
    return run.csv
