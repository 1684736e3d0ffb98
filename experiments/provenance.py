"""Provenance: the code and the machine of every session of a run."""

from __future__ import annotations

import functools
import json
import platform
import subprocess
import tomllib
from datetime import UTC, datetime
from importlib import metadata

import torch

from experiments.models import products
from experiments.records import PROJECT
from optim import cache

_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "hydra-core")
# What a run computes depends on these alone, tracked or not: neither on notes, figures and prose, nor on a linked .venv.
_CODE = (":(glob)*.py", "conf", "data", "experiments", "hydra_plugins", "optim")


def version() -> str:
    """Returns the version of the package and the commit, as one line."""
    package = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    commit = _git("rev-parse", "--short=12", "HEAD")
    changes = " with uncommitted changes" if uncommitted_changes() else ""
    return f"{package['name']} {package['version']}, {f'commit {commit}{changes}' if commit else 'not in a git repository'}"


def uncommitted_changes() -> bool | None:
    """Returns whether files that runs depend on differ from the commit; None outside a git repository."""
    changes = _git("status", "--porcelain", "--", *_CODE)
    return None if changes is None else bool(changes)


def is_in_history(commit: str) -> bool:
    """Returns whether a commit is an ancestor of the current one."""
    return _git("merge-base", "--is-ancestor", commit, "HEAD") is not None


@functools.cache
def code() -> dict[str, str | bool | None]:
    """Returns `commit` and `uncommitted_changes` at the first call in this process, which must be soon after the imports.

    Later commits and changes do not affect the code that a process has imported.
    """
    return {"commit": _git("rev-parse", "HEAD"), "uncommitted_changes": uncommitted_changes()}


def session(device: torch.device) -> dict:
    """Returns the current provenance: `code`, versions, processor, device, time (UTC)."""
    return {
        **code(),
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in _PACKAGES},
        "device": str(device),
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "products": products.library(),
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


def merge_sessions(sessions: list[dict]) -> list[dict]:
    """Returns the distinct sessions by start time; every shard of a session lists it."""
    return sorted({json.dumps(one): one for one in sessions}.values(), key=lambda one: one["started"])


def processor() -> str:
    """Returns the name of the CPU."""
    return cache.processor().partition("\n")[0].partition(":")[2].strip() or platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(("git", *arguments), cwd=PROJECT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
