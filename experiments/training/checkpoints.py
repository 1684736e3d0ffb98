"""Checkpoints: an interrupted run resumes after its last finished epoch, with identical results."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from data.files import atomic_write
from data.tensor_files import DamagedFile, load_tensors, save_tensors
from experiments.records import Run

if TYPE_CHECKING:
    from experiments.training.state import TrainState


class Checkpoint:
    """A file replaced after every epoch. The previous one is kept: a kill or a damaged file loses one epoch at most.

    Args:
        path: of the file.
        config: the run's configuration; checkpoints of other configurations are ignored.
        origin: the current session (see `provenance.session`).

    Attributes:
        origins: the sessions that trained the state last loaded or saved, oldest first.
    """

    def __init__(self, path: Path, config: dict, origin: dict | None = None):
        self.path, self.previous = path, path.with_name(f"{path.name}.previous")
        self.config, self.origin = json.dumps(config, sort_keys=True), origin or {}
        self.origins: list[dict] = []

    @classmethod
    def of(cls, run: Run, shard: int, origin: dict | None = None) -> Checkpoint:
        """Returns the checkpoint of one shard of a run."""
        return cls(run.csv.with_suffix(f".checkpoint{shard}"), {**run.identity, **run.extent}, origin)

    def epochs(self) -> int:
        """Returns the number of finished epochs; reads no tensors."""
        state = self.load(lazily=True)
        return state["epochs"] if state else 0

    def load(self, lazily: bool = False) -> dict | None:
        """Returns the last saved state, with tensors on the CPU; None if there is none for this configuration.

        Falls back to the previous checkpoint, with a message, if the last one is damaged.

        Args:
            lazily: whether tensors stay on disk until used. Then nothing is printed or changed: the caller need not hold the run's lock.

        Raises:
            OSError: neither file can be used.
        """
        damage = None
        for path in (self.path, self.previous):
            try:
                saved = self._read(path, lazily)
            except FileNotFoundError:  # a kill between the two renames of `save` leaves no last checkpoint
                continue
            except DamagedFile as error:
                damage = error
                continue
            if path == self.previous and not lazily:
                os.replace(self.previous, self.path)
            if saved["config"] != self.config:
                return None
            if damage and not lazily:
                print(f"{damage}; training resumes from the checkpoint before it, of epoch {saved['state']['epochs']}", flush=True)
            self.origins = saved["origins"]
            return saved["state"]
        if damage:
            raise self._unusable(damage) from damage
        return None

    def restore(self, state: TrainState) -> None:
        """Loads the last saved state, if any, into `state`.

        Raises:
            OSError: neither file can be used, or the saved state does not fit.
        """
        saved = self.load()
        try:
            if saved:
                state.load_state_dict(saved)
        except Exception as error:  # a crafted file with a valid digest can raise anything
            raise self._unusable(error) from error

    def save(self, state: dict) -> None:
        """Saves the state, and keeps the previous checkpoint.

        Raises:
            OSError: the disk is full, or the folder cannot be written; the last checkpoint is kept.
        """
        if self.origin not in self.origins:
            self.origins.append(self.origin)
        try:
            with atomic_write(self.path) as part:
                save_tensors({"config": self.config, "origins": self.origins, "state": state}, part)
                with contextlib.suppress(FileNotFoundError):
                    os.replace(self.path, self.previous)
        except OSError as error:
            raise OSError(
                f"cannot write {self.path} ({error.strerror or error}): make room, or name another folder with results=..."
            ) from error

    @staticmethod
    def _read(path: Path, lazily: bool) -> dict:
        saved = load_tensors(path, lazily=lazily)
        kinds = {"config": str, "origins": list, "state": dict}
        if not isinstance(saved, dict) or any(not isinstance(saved.get(key), kind) for key, kind in kinds.items()):
            raise DamagedFile(f"{path} is damaged: it is not a checkpoint")
        dated = all(isinstance(origin, dict) and (not origin or isinstance(origin.get("started"), str)) for origin in saved["origins"])
        if type(saved["state"].get("epochs")) is not int or not dated:
            raise DamagedFile(f"{path} is damaged: it is not a checkpoint of this version")
        return saved

    def _unusable(self, error: Exception) -> OSError:
        reason = error if isinstance(error, DamagedFile) else f"{self.path} does not fit the run: {' '.join(str(error).split())}"
        return OSError(f"{reason}; remove {self.path.name}* to start again")
