"""What a run leaves behind: a tidy CSV and, beside it, where it came from. Both land whole or not at all.

The CSV has a row for each member and pass, with the columns of COLUMNS, and those of second moments where they are recorded.
A run without the JSON of the same name is not complete.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from data.files import atomic_write, part_path, remove_abandoned
from experiments.models import products
from experiments.training.checkpoints import Checkpoint

PROJECT = Path(__file__).resolve().parent.parent
COLUMNS = (
    "experiment", "settings", "optimizer", "data", "member", "seed", "hyperparameters",
    "pass", "cost", "train_cost", "train_error", "test_cost", "test_error", "penalty",
)  # fmt: skip
# Keys that say where and how, not what, is computed; and the table that the settings were taken from.
_HOUSEKEEPING = ("results", "force", "threads", "products", "cuda_graph", "hyperparameters")


class Record:
    """The files of one run.

    Args:
        config: the resolved configuration.
        optimizer: the optimizer's name.
        overrides: what the command line changed besides experiment, optimizer and settings, as key=value,key=value.
        data: `real` or `standin`; runs on stand-in data have a folder of their own.
    """

    def __init__(self, config: dict, optimizer: str, overrides: str, data: str):
        self.config = {key: value for key, value in config.items() if key not in _HOUSEKEEPING}
        self.config["data"] = {key: value for key, value in config["data"].items() if key not in ("root", "source")}
        self.labels = {"experiment": config["experiment"], "settings": config["settings"], "optimizer": optimizer, "data": data}
        folder = PROJECT / config["results"] / ("standin" if data == "standin" else "") / config["experiment"] / config["settings"]
        self.csv = folder / file_name(optimizer, overrides, self.config)

    def __str__(self) -> str:
        """The path of the CSV as a user of the project would type it."""
        return shown(self.csv)

    @property
    def complete(self) -> bool:
        """Whether the same run has been finished before."""
        return is_complete(self.csv, self.config)

    def checkpoint(self, shard: int, origin: dict) -> Checkpoint:
        """Where the training of a shard of members, with the code and the machine of `origin`, is kept until the run is complete."""
        return Checkpoint(self.csv.with_suffix(f".checkpoint{shard}"), self.config, origin)

    def write(self, table: pd.DataFrame, provenance: dict) -> None:
        """Writes the table, whose columns the run's labels complete, and the provenance; see `land`."""
        table = table.assign(**self.labels)
        further = [column for column in table if column not in COLUMNS]
        table = table.reindex(columns=[*COLUMNS, *further]).sort_values(["member", "pass"])
        land(self.csv, table, {**self.labels, "config": self.config, **provenance})
        checkpoints = Path(f"{glob.escape(self.csv.stem)}.checkpoint*")
        for stale in self.csv.parent.glob(checkpoints.name):
            stale.unlink(missing_ok=True)  # an identical run may have finished at the same time
        for half_written in self.csv.parent.glob(part_path(checkpoints).name):
            remove_abandoned(half_written)


def file_name(name: str, overrides: str, config: dict) -> str:
    """name,overrides.csv; with a hash of the configuration where the letters of a file name do not tell overrides apart."""
    told = "".join(letter if letter.isalnum() or letter in "=,.[]-_" else "_" for letter in overrides)[:150]
    if told != overrides or "_target_" in overrides:
        told += f",{hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]}"
    return f"{','.join(filter(None, [name, told]))}.csv"


def shown(path: Path) -> str:
    """The path as a user of the project would type it."""
    return str(path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path)


def is_complete(csv: Path, config: dict) -> bool:
    """Whether the table has been written before, for the same configuration."""
    provenance = csv.with_suffix(".json")
    return csv.exists() and provenance.exists() and json.loads(provenance.read_text())["config"] == config


def land(csv: Path, table: pd.DataFrame, provenance: dict) -> None:
    """Writes the table and, beside it, the provenance: both, or in case of an OSError neither."""
    try:
        with atomic_write(csv.with_suffix(".json")) as provenance_part, atomic_write(csv) as table_part:
            table.to_csv(table_part, index=False, float_format="%.8g")
            provenance_part.write_text(json.dumps(provenance, indent=1) + "\n")
    except OSError as error:
        raise OSError(f"cannot write {shown(csv)} ({error.strerror}): make room, or name another folder with results=...") from error


def diverged_members(table: pd.DataFrame) -> list[int]:
    """The members whose cost was infinite or not a number after some pass."""
    return sorted(table.loc[~np.isfinite(table["cost"]), "member"].unique().tolist())


def summary(table: pd.DataFrame, seconds: float) -> str:
    """What a run came to, in a line: the member with the lowest cost in the last pass."""
    last = table[table["pass"] == table["pass"].max()]
    best = last.sort_values("cost").iloc[0]
    return (
        f"{len(last)} members, {best['pass']:.0f} passes, {seconds:.1f} s of training, {len(diverged_members(table))} diverged; "
        f"best cost {best['cost']:.4f}, its test cost {best.get('test_cost', math.nan):.4f}"
    )


def announce(name: str, members: int, passes: int, done: float, seconds: float) -> None:
    """Says how long a run will take, if that is more than a minute.

    Args:
        name: of the run.
        members: how many.
        passes: how many.
        done: share of the work that was done before.
        seconds: estimate for the rest.
    """
    if seconds > 60:
        rest = f"; {done:.0%} is done, the rest" if done else ""
        print(f"{name}: {members} member{'s' * (members > 1)}, {passes} passes{rest}: about {_duration(seconds)} here", flush=True)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} minute{'s' * (minutes > 1)}" if minutes < 100 else f"{seconds / 3600:.1f} hours"


def system(device: torch.device) -> dict:
    """The code and the machine as they are now: commit, versions, processor, device."""
    packages = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "hydra-core")
    return {
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": None if (changes := _git("status", "--porcelain", "--", ":!results")) is None else bool(changes),
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in packages},
        "device": str(device),
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "products": products.library(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def joined(origins: list[dict]) -> dict:
    """The last of the origins of a run that was interrupted, from `system`, and what it should say of those before."""
    distinct = sorted({json.dumps(origin): origin for origin in origins}.values(), key=lambda origin: origin["started"])
    changes = any(origin["uncommitted_changes"] for origin in distinct) or distinct[-1]["uncommitted_changes"]
    return {**distinct[-1], "uncommitted_changes": changes} | ({"earlier": distinct[:-1]} if distinct[1:] else {})


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(("git", *arguments), cwd=PROJECT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def processor() -> str:
    """Returns the name of the CPU."""
    names = [line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
