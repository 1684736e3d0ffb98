"""What an interrupted run needs to go on after its last finished epoch, as if nothing had happened."""

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
    """A file that is replaced after every epoch, with the one before it beside it: a kill or a damaged file costs one epoch at most.

    Args:
        path: of the file.
        config: the run's configuration; a checkpoint of another one is not used.
        origin: the code and the machine that train on from here.

    Attributes:
        origins: those that trained the epochs that were loaded or saved last, the first one first.
    """

    def __init__(self, path: Path, config: dict, origin: dict | None = None):
        self.path, self.previous = path, path.with_name(f"{path.name}.previous")
        self.config, self.origin = json.dumps(config, sort_keys=True), origin or {}
        self.origins: list[dict] = []

    @classmethod
    def of(cls, run: Run, shard: int, origin: dict | None = None) -> Checkpoint:
        """Returns the checkpoint of a shard of a run's members."""
        return cls(run.checkpoint(shard), {**run.identity, **run.extent}, origin)

    def passes(self) -> int:
        """Returns how many epochs have been finished; reads no tensors."""
        state = self.load(lazily=True)
        return state["passes"] if state else 0

    def load(self, lazily: bool = False) -> dict | None:
        """Returns the state that was saved last, if there is one for this configuration; its tensors are on the CPU.

        Goes back to the previous checkpoint where the last one is damaged, and says so.

        Args:
            lazily: whether tensors stay on disk until they are used.

        Raises:
            OSError: neither file can be used.
        """
        try:
            saved, damage = self._read(self.path, lazily), None
        except (FileNotFoundError, DamagedFile) as error:  # a kill between the two renames of `save` leaves no last checkpoint
            damage = error if isinstance(error, DamagedFile) else None
            if self.previous.exists():
                saved = self._go_back(lazily)
            elif damage:
                raise self._unusable(damage) from error
            else:
                return None
        if saved["config"] != self.config:
            return None
        if damage:
            print(f"{damage}; training resumes from the checkpoint before it, of epoch {saved['state']['passes']}", flush=True)
        self.origins = saved["origins"]
        return saved["state"]

    def restore(self, state: TrainState) -> None:
        """Puts the state that was saved last, if any, into `state`.

        Raises:
            OSError: neither file can be used, or what they hold does not fit.
        """
        saved = self.load()
        try:
            if saved:
                state.load_state_dict(saved)
        except Exception as error:  # whoever recomputes the digest can make this raise anything
            raise self._unusable(error) from error

    def save(self, state: dict) -> None:
        """Keeps the state, and what was saved before beside it.

        Raises:
            OSError: the disk is full, or the folder cannot be written; what was saved before is still there.
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

    def _go_back(self, lazily: bool) -> dict:
        try:
            saved = self._read(self.previous, lazily)
        except DamagedFile as error:
            raise self._unusable(error) from error
        os.replace(self.previous, self.path)
        return saved

    @staticmethod
    def _read(path: Path, lazily: bool) -> dict:
        saved = load_tensors(path, lazily=lazily)
        kinds = {"config": str, "origins": list, "state": dict}
        if not isinstance(saved, dict) or any(not isinstance(saved.get(key), kind) for key, kind in kinds.items()):
            raise DamagedFile(f"{path} is damaged: it is not a checkpoint")
        dated = all(isinstance(origin, dict) and (not origin or isinstance(origin.get("started"), str)) for origin in saved["origins"])
        if type(saved["state"].get("passes")) is not int or not dated:
            raise DamagedFile(f"{path} is damaged: it is not a checkpoint of this version")
        return saved

    def _unusable(self, error: Exception) -> OSError:
        reason = error if isinstance(error, DamagedFile) else f"{self.path} does not fit the run: {' '.join(str(error).split())}"
        return OSError(f"{reason}; remove {self.path.name}* to start again")
