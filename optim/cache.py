"""What takes time to make is kept between runs, in the user's cache folder, and used only if nobody else can have written it."""

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
_PREFIX = "adam-paper-"  # of temporary folders, before the process id


def cached(key: str, suffix: str, make: Callable[[Path], Path], load: Callable[[Path], T]) -> T:
    """Loads the file that belongs to a key, made anew unless it is there, whole, and only the user can have written it.

    A file's name holds the digest of its content. Where there is no folder to keep it in, it is made for this process only.

    Args:
        key: everything that the content depends on.
        suffix: of the file's name.
        make: gets an empty folder and returns the path of the file that it has put there.
        load: gets the path of a file that is there at least until it returns.
    """
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = _folder()
    for path in folder.glob(f"{name}-*{suffix}") if folder else ():
        if _is_right(path, name, suffix):
            return load(path)
        path.unlink(missing_ok=True)
    _remove_abandoned()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as temporary:
        made = make(Path(temporary))
        return load(_keep(made, folder / _name(name, made.read_bytes(), suffix)) if folder else made)


def processor() -> str:
    """Returns what processors differ in, for keys: name and instruction set; an empty string where the system does not say."""
    path, names = Path("/proc/cpuinfo"), ("model name", "flags", "Features")
    lines = path.read_text().splitlines() if path.exists() else []
    return "\n".join(next((line for line in lines if line.startswith(name)), "") for name in names)


def _remove_abandoned() -> None:
    """Removes the temporary folders of processes that were killed."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            os.kill(int(left.name.removeprefix(_PREFIX).partition("-")[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(left, ignore_errors=True)
        except (ValueError, OSError):  # not ours
            pass


def _is_right(path: Path, name: str, suffix: str) -> bool:
    try:
        return _is_ours(path) and path.name == _name(name, path.read_bytes(), suffix)
    except FileNotFoundError:  # another process has found it wrong
        return False


def _name(name: str, content: bytes, suffix: str) -> str:
    return f"{name}-{hashlib.sha256(content).hexdigest()}{suffix}"


def _folder() -> Path | None:
    """The user's cache folder, open to nobody else; None: it cannot be had."""
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or "")  # a relative path is to be ignored, says the XDG specification
        folder = (root if root.is_absolute() else Path.home() / ".cache") / "adam-paper"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(folder, writable=True):
            return None
        folder.chmod(0o700)  # one that is open is closed: each file in it is checked
    except (OSError, RuntimeError):  # no right to write there; no home directory
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _is_ours(path: Path, writable: bool = False) -> bool:
    """Whether the user owns a file or folder, which is no link, and (unless `writable`) nobody else may write it."""
    status = path.lstat()
    return not stat.S_ISLNK(status.st_mode) and status.st_uid == os.getuid() and (writable or not status.st_mode & 0o022)


def _keep(made: Path, path: Path) -> Path:
    """Puts a copy of a file in the cache, at once and for the user alone; returns where it is, which is `made` on a full disk."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        part.write_bytes(made.read_bytes())
        part.chmod(0o600)
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        return made
    for left in path.parent.glob("*.part"):  # by a process that was killed here
        left.unlink(missing_ok=True)
    return path
