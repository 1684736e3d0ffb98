"""Finished runs on disk: `Run.write` stores one, `catalogue` finds them.

A run is two files. The CSV has a row per member and epoch: COLUMNS, then second moments if recorded, then each hyper-parameter that varies.
The JSON beside it holds the configuration in three parts (see `partition`), the command line's overrides, the provenance of every session,
and the digests of both files. File names are for people: no code parses them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from data.files import atomic_write

PROJECT = Path(__file__).resolve().parent.parent
LABELS = ("experiment", "settings", "optimizer", "data")
COLUMNS = (*LABELS, "member", "seed", "epoch", "cost", "train_cost", "train_error", "test_cost", "test_error", "penalty")
# The settings of optimizers without a row in an experiment: their own library's defaults.
DEFAULTS = "defaults"
# Extent is how much is computed, machine where; all other keys are the identity, what is computed.
EXTENT = ("epochs", "seed", "seeds", "shard")
MACHINE = ("device", "part", "threads", "products", "cuda_graph", "results", "force", "data.root", "data.source")
_PATHS = ("part", "results", "data.root", "force", "data.source")  # meaningless on other machines: not recorded


class RecordError(ValueError):
    """A run's files do not match or cannot be read. The message is one sentence with the file and the remedy."""


def partition(config: Mapping) -> dict[str, dict]:
    """Splits a resolved configuration into `identity` (nested), `extent` and `machine` (both flat, by full keys)."""
    parts: dict[str, dict] = {"identity": {}, "extent": {}, "machine": {}}
    for key, value in config.items():
        if key in EXTENT or key in MACHINE:
            parts["extent" if key in EXTENT else "machine"][key] = value
        elif isinstance(value, Mapping):
            parts["identity"][key] = {name: part for name, part in value.items() if f"{key}.{name}" not in MACHINE}
            parts["machine"] |= {f"{key}.{name}": part for name, part in value.items() if f"{key}.{name}" in MACHINE}
        else:
            parts["identity"][key] = value
    return parts


@dataclass(frozen=True)
class Run:
    """A run and its two files, which may not exist yet.

    Attributes:
        csv: the path of the CSV; the JSON has the same name.
        identity: what is computed.
        extent: how much of it is computed.
        machine: where it is computed, as configured.
        overrides: the command line, as key=value, without experiment, optimizer, settings, property and machine keys.
        facts: the rest of the JSON; empty until the run is finished.
        data: `real` or `standin`.
        experiment, settings, optimizer: empty for a measured property.
        measured: name of the measured property; empty for a training run.
    """

    csv: Path
    identity: dict
    extent: dict
    machine: dict
    overrides: tuple[str, ...] = ()
    facts: dict = field(default_factory=dict)
    data: str = "real"
    experiment: str = ""
    settings: str = ""
    optimizer: str = ""
    measured: str = ""

    @classmethod
    def of(cls, config: Mapping, overrides: Iterable[str], **labels: str) -> Run:
        """Returns the run that a resolved configuration describes; runs on stand-in data have their own folder."""
        parts, overrides = partition(config), tuple(overrides)
        folder = PROJECT / config["results"] / ("standin" if labels["data"] == "standin" else "")
        folder = folder / "properties" if "measured" in labels else folder / labels["experiment"] / labels["settings"]
        name = slug(labels.get("measured") or labels["optimizer"], overrides, parts)
        return cls(folder / name, parts["identity"], parts["extent"], parts["machine"], overrides, {}, **labels)

    @classmethod
    def on_both_data(cls, config: Mapping, task: Iterable[str], **labels: str) -> dict[str, Run]:
        """Returns the runs of one command line, `task`, on `real` and on `standin` data."""
        known = ("experiment", "optimizer", "settings", "property", *MACHINE)
        overrides = sorted(one for one in task if key_of(one) not in known)
        return {data: cls.of(config, overrides, data=data, **labels) for data in ("real", "standin")}

    def __str__(self) -> str:
        """Returns the path of the CSV relative to the project."""
        return display_path(self.csv)

    @property
    def labels(self) -> dict[str, str]:
        """The run's nonempty labels, in the order of the CSV's columns."""
        labels = {key: getattr(self, key) for key in ("measured", *LABELS)}
        return {key: value for key, value in labels.items() if value}

    def is_complete(self) -> bool:
        """Returns whether a finished run with these labels, identity and extent is on disk.

        Raises:
            RecordError: its files do not match.
        """
        found = read(self.csv)
        return found is not None and (found.labels, found.identity, found.extent) == (self.labels, self.identity, self.extent)

    @property
    def has_default_settings(self) -> bool:
        """Whether the command line overrode extent and machine keys only.

        Under settings=defaults it may also override optimizer keys: the experiment sets none.
        """
        keys = map(key_of, self.overrides)
        own = "optimizer." if self.settings == DEFAULTS else None
        return all(key in (*EXTENT, *MACHINE) or (own and key.startswith(own)) for key in keys)

    @property
    def hyperparameters(self) -> list[str]:
        """The CSV columns of the hyper-parameters that vary."""
        return self.facts.get("hyperparameters", [])

    @property
    def session(self) -> dict:
        """The provenance of the session that finished the run."""
        return self.facts["sessions"][-1]

    def table(self) -> pd.DataFrame:
        """Reads the CSV; a member's cost is infinite from the epoch in which it diverged (results/README.md).

        Adds columns to a training run: `x`, the paper's abscissa, 0 for the first epoch; `seconds`, the training time per member up to the
        end of the epoch; and `machine`, the processors and threads of the run's sessions.
        """
        table = pd.read_csv(self.csv)
        if self.measured:
            return table
        seconds = dict(enumerate(self.facts.get("seconds_after_epoch", ()), 1))
        machines = {f"{session['processor']}, {session['threads']} threads" for session in self.facts.get("sessions", ())}
        diverged = (~np.isfinite(table["cost"])).groupby(table["member"]).cummax()
        return table.assign(
            x=table["epoch"] - 1,
            seconds=table["epoch"].map(seconds).astype(float) / table["member"].nunique(),
            machine=" and ".join(sorted(machines)),
            cost=table["cost"].mask(diverged, np.inf),
        )

    def write(self, table: pd.DataFrame, facts: Mapping) -> None:
        """Writes both files.

        Removes the old JSON first and writes the new one last: after a kill no CSV lies beside another run's JSON.

        Args:
            table: all columns except LABELS.
            facts: the JSON's keys besides configuration and digests, such as `sessions`.

        Raises:
            OSError: the files cannot be written; the previous ones are kept.
        """
        if not self.measured:
            further = [column for column in table if column not in COLUMNS]
            table = table.assign(**self.labels).reindex(columns=[*COLUMNS, *further]).sort_values(["member", "epoch"])
        machine = {key: value for key, value in self.machine.items() if key not in _PATHS}
        parts = {"overrides": list(self.overrides), "identity": self.identity, "extent": self.extent, "machine": machine}
        try:
            with atomic_write(self.csv.with_suffix(".json")) as json_part, atomic_write(self.csv) as csv_part:
                table.to_csv(csv_part, index=False, float_format="%.8g")
                digest = {"sha256": _sha256(csv_part), "rows": len(table)}
                record = {**self.labels, **parts, "csv": digest, **facts}
                json_part.write_text(json.dumps(record | {"sha256": _digest(record)}, indent=1) + "\n")
                self.csv.with_suffix(".json").unlink(missing_ok=True)
        except OSError as error:
            raise OSError(f"cannot write {self} ({error.strerror or error}): make room, or name another folder with results=...") from error


def catalogue(root: Path) -> list[Run]:
    """Returns all finished runs below a folder, sorted by path.

    Raises:
        RecordError: a CSV does not match its JSON, or a JSON is damaged.
    """
    paths = (path for path in sorted(root.rglob("*.json")) if not path.name.startswith("."))  # hidden: being written
    runs = (read(path.with_suffix(".csv")) for path in paths)
    return [run for run in runs if run is not None]


def read(csv: Path) -> Run | None:
    """Returns the finished run whose CSV is at `csv`; None if one of the two files does not exist.

    Raises:
        RecordError: the CSV does not match its JSON, or the JSON is damaged.
    """
    try:
        stamps = tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in (csv, csv.with_suffix(".json")))
    except FileNotFoundError:
        return None
    return _read(csv, stamps)


@cache
def _read(csv: Path, stamps: tuple) -> Run:
    """Reads and checks both files; caches by modification times and sizes, because scripts read the same runs many times."""
    name, repair = display_path(csv.with_suffix(".json")), "restore both files, or train again with force=true"
    try:
        facts = json.loads(csv.with_suffix(".json").read_text())
        changed = facts.pop("sha256") != _digest(facts)
        labels = {key: str(facts.pop(key)) for key in (("measured", "data") if "measured" in facts else LABELS)}
        parts = {part: dict(facts.pop(part)) for part in ("identity", "extent", "machine")}
        overrides, digest, rows = tuple(facts.pop("overrides")), facts["csv"]["sha256"], facts["csv"]["rows"]
        _ = facts["sessions"][-1]["started"]  # `canonical_runs` needs it
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RecordError(f"{name} is not the record of a run: {repair}") from error
    if changed:
        raise RecordError(f"{name} was changed after it was written: {repair}")
    if _sha256(csv) != digest:
        raise RecordError(f"{display_path(csv)} is not the table of {rows} rows that its JSON describes: {repair}")
    return Run(csv, parts["identity"], parts["extent"], parts["machine"], overrides, facts, **labels)


def slug(name: str, overrides: Iterable[str], parts: Mapping) -> str:
    """Returns a readable file name, name,key=value.csv; adds a hash of the configuration if characters had to be replaced or cut."""
    text = ",".join(overrides)
    plain = "".join(letter if letter.isalnum() or letter in "=,.[]-_" else "_" for letter in text)[:150]
    if plain != text or "_target_" in text:
        known = {part: parts[part] for part in ("identity", "extent")}
        plain += f",{hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:8]}"
    return f"{','.join(filter(None, [name, plain]))}.csv"


def key_of(override: str) -> str:
    """Returns the key of an override: `optimizer.lr` of `+optimizer.lr=0.1`."""
    return override.lstrip("+~").partition("=")[0]


def display_path(path: Path) -> str:
    """Returns a path, relative to the project if it lies inside."""
    return str(path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path)


def _digest(record: Mapping) -> str:
    """Returns the SHA-256 of a JSON's contents without the digest itself."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
