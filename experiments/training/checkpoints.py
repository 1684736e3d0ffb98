"""What an interrupted run needs to go on after its last finished pass, as if nothing had happened."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch

from data.files import atomic_write
from experiments.records import Run


class Checkpoint:
    """One file, replaced whole after every pass: what a kill cuts short leaves the one before.

    Args:
        path: of the file.
        config: the run's configuration; a checkpoint of another one is not used.
        origin: the code and the machine that train on from here, from `recording.system`.

    Attributes:
        origins: those that trained the passes that were loaded or saved last, the first one first.
    """

    def __init__(self, path: Path, config: dict, origin: dict | None = None):
        self.path, self.config, self.origin = path, config, origin or {}
        self.origins: list[dict] = []

    @classmethod
    def of(cls, run: Run, shard: int, origin: dict | None = None) -> Checkpoint:
        """Returns the checkpoint of a shard of a run's members."""
        return cls(run.checkpoint(shard), {**run.identity, **run.extent}, origin)

    def passes(self) -> int:
        """How many passes have been finished; looks at the file without reading its tensors."""
        state = self.load(lazily=True)
        return state["passes"] if state else 0

    def load(self, lazily: bool = False) -> dict | None:
        """The state that was saved last, if there is one for this configuration; its tensors are on the CPU.

        Args:
            lazily: leave the tensors on disk until they are looked at.

        Raises:
            OSError: the file is not one of ours, or was damaged.
        """
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True, mmap=lazily)
        except FileNotFoundError:
            return None
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise OSError(f"{self.path} is no checkpoint that can be read: remove it, and the run starts again") from error
        if saved["config"] != self.config:
            return None
        self.origins = saved.get("origins", [])
        return saved["state"]

    def save(self, state: dict) -> None:
        """Keeps the state, in the place of what was saved before.

        Raises:
            OSError: the disk is full, or the folder cannot be written; what was saved before is still there.
        """
        if self.origin not in self.origins:
            self.origins.append(self.origin)
        try:
            with atomic_write(self.path) as part:
                torch.save({"config": self.config, "origins": self.origins, "state": state}, part)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            reason = error.strerror if isinstance(error, OSError) else "no space left"
            raise OSError(f"cannot write {self.path} ({reason}): make room, or name another folder with results=...") from error
