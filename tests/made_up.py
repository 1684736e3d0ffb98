"""Runs with made-up costs, for the scripts that read runs."""

import json
from pathlib import Path

import pandas as pd


def write_run(root: Path, optimizer: str, costs, experiment="fig1_left", settings="paper", data="real", seeds=(0, 1), **columns) -> Path:
    """A run whose cost in pass p is costs[p - 1], higher by 1 % for each later seed."""
    path = root / ("standin" if data == "standin" else "") / experiment / settings / f"{optimizer}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"experiment": experiment, "settings": settings, "optimizer": optimizer.split(",")[0], "data": data, "member": member, "seed": seed,
         "hyperparameters": "", "pass": number, "cost": cost * (1 + member / 100), "train_cost": cost, "penalty": 0.5, **columns}
        for member, seed in enumerate(seeds)
        for number, cost in enumerate(costs, 1)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(path, index=False)
    config = {"experiment": experiment, "schedule": "constant", "data": {}}
    path.with_suffix(".json").write_text(json.dumps({"data": data, "config": config}))
    return path
