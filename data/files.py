"""Atomic writes: a file appears complete or not at all, even if its writer is killed.

Each file is written to a temporary file `.STEM.part.SUFFIX` beside it, under a lock that the system releases when the process ends.
Processes that write the same file take turns. The next writer reuses the temporary file of a killed process.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def part_path(path: Path) -> Path:
    """Returns the temporary path for `path`, with the same suffix because some writers derive the format from it."""
    return path.with_name(f".{path.stem}.part{path.suffix}")


@contextlib.contextmanager
def locked_part(path: Path) -> Iterator[BinaryIO]:
    """Opens the temporary file for `path` for appending, unbuffered, and holds its lock.

    Waits while another process holds the lock.

    Raises:
        OSError: the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with part_path(path).open("ab", buffering=0) as file:
            with contextlib.suppress(OSError):  # some network file systems have no locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_linked(file, part_path(path)):
                yield file
                return
            # The previous holder moved or removed this file while we waited; open a new one.


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to, and renames it to `path` if the block succeeds.

    After a power failure, `path` is the old file or the new one: the content is on disk before the name changes.

    Raises:
        OSError: the folder cannot be written to.
    """
    with locked_part(path) as file:
        part = part_path(path)
        try:
            file.truncate(0)
            yield part
            os.fsync(file.fileno())
            os.replace(part, path)
            _sync_folder(path.parent)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def remove_abandoned_part(part: Path) -> None:
    """Removes a temporary file, unless a process is writing it."""
    with contextlib.suppress(FileNotFoundError), part.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:  # some network file systems have no locks
            pass
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot sync folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_linked(file: BinaryIO, path: Path) -> bool:
    """Returns whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
