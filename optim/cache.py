"""A cache of compiled code in the user's cache folder. Only files that no other user can have written are loaded."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_PREFIX = "adam-paper-"  # of temporary folders; the process id follows


def cached(key: str, suffix: str, make: Callable[[Path], Path], load: Callable[[Path], T]) -> T:
    """Loads the cached file for a key; makes it if it is missing, damaged, or writable by another user.

    A file's name contains the digest of its content. Without a writable cache folder, each process makes its own file.

    Args:
        key: everything that the content depends on.
        suffix: suffix of the file name.
        make: writes a file into the empty folder that it is given, and returns its path.
        load: reads the file, which may be removed once `load` returns.

    Returns:
        What `load` returns.
    """
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = _folder()
    _remove_abandoned()
    for path in folder.glob(f"{name}-*{suffix}") if folder else ():
        if _is_trusted(path, name, suffix):
            return load(path)
        path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as temporary:
        made = make(Path(temporary))
        return load(_store(made, folder / _name(name, made.read_bytes(), suffix)) if folder else made)


def processor() -> str:
    """Returns the processor's name and instruction set for use in keys, or an empty string if the system does not report them."""
    path, names = Path("/proc/cpuinfo"), ("model name", "flags", "Features")
    lines = path.read_text().splitlines() if path.exists() else []
    return "\n".join(next((line for line in lines if line.startswith(name)), "") for name in names)


def _remove_abandoned() -> None:
    """Removes the temporary folders of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _has_ended(folder.name.removeprefix(_PREFIX).partition("-")[0]):
            shutil.rmtree(folder, ignore_errors=True)


def _has_ended(process: str) -> bool:
    """Returns whether the process with this id has ended; False if it is another user's or no id."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (ValueError, OSError):
        pass
    return False


def _is_trusted(path: Path, name: str, suffix: str) -> bool:
    try:
        return _is_private(path) and path.name == _name(name, path.read_bytes(), suffix)
    except FileNotFoundError:  # another process has removed it as damaged
        return False


def _name(name: str, content: bytes, suffix: str) -> str:
    return f"{name}-{hashlib.sha256(content).hexdigest()}{suffix}"


def _folder() -> Path | None:
    """Returns the user's private cache folder, or None if it is not writable or has another owner."""
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or "")  # the XDG specification ignores relative paths
        folder = (root if root.is_absolute() else Path.home() / ".cache") / "adam-paper"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(folder, writable=True):
            return None
        folder.chmod(0o700)  # `_is_trusted` rejects files that others wrote before
    except (OSError, RuntimeError):  # no permission; no home directory
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _is_private(path: Path, writable: bool = False) -> bool:
    """Returns whether the user owns the path, it is no link, and (unless `writable`) no other user may write it."""
    status = path.lstat()
    return not stat.S_ISLNK(status.st_mode) and status.st_uid == os.getuid() and (writable or not status.st_mode & 0o022)


def _store(made: Path, path: Path) -> Path:
    """Copies a file atomically into the cache, readable by the user alone. Returns the path of the copy, or `made` if that fails."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        part.write_bytes(made.read_bytes())
        part.chmod(0o600)
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        return made
    for copy in path.parent.glob("*.part"):
        if _has_ended(copy.stem.rpartition(".")[2]):  # killed while it copied
            copy.unlink(missing_ok=True)
    return path
