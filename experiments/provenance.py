"""Provenance: the code and the machine of every session of a run."""

from __future__ import annotations

import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

from experiments.models import products
from experiments.records import PROJECT

_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "hydra-core")


def session(device: torch.device) -> dict:
    """Returns the current provenance: commit, versions, processor, device, time (UTC)."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": None if (changes := _git("status", "--porcelain", "--", ":!results")) is None else bool(changes),
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in _PACKAGES},
        "device": str(device),
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "products": products.library(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def merge_sessions(sessions: list[dict]) -> list[dict]:
    """Returns the distinct sessions by start time; every shard of a session lists it."""
    return sorted({json.dumps(one): one for one in sessions}.values(), key=lambda one: one["started"])


def processor() -> str:
    """Returns the name of the CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(("git", *arguments), cwd=PROJECT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
