"""One process at a time trains a run: a lock file beside the CSV names its owner, who touches it as long as it lives.

The locks are leases of filelock. They rely on exclusive creation and on renames, not on locks of the system, and therefore work on network
file systems. Who waits takes over at once from a process of this machine that has died (process id and start time tell), and from another
machine's after _LEASE seconds without a touch.
"""

import contextlib
import glob
import itertools
import os
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from filelock import SoftFileLease, Timeout

_LEASE, _TOUCH = 180.0, 30.0  # seconds; a network file system may show a touch a minute late
_POLL, _UNWRITTEN = 10.0, 10.0


@contextlib.contextmanager
def exclusive(csv: Path) -> Iterator[None]:
    """Holds the lock of the run whose table is `csv`; waits for another process that trains it, and says so once a minute.

    Removes what killed processes left of the run.

    Raises:
        OSError: the folder cannot be written, or another process has taken the lock while this one was suspended.
    """
    lease = _lease(csv, on_compromise=lambda _: os.kill(os.getpid(), signal.SIGINT))
    try:
        _acquire(lease, csv)
    except OSError as error:
        raise OSError(
            f"cannot write {lease.lock_file} ({error.strerror or error}): make room, or name another folder with results=..."
        ) from error
    try:
        _remove_leftovers(csv)
        yield
        _remove_leftovers(csv)
    except KeyboardInterrupt:
        if lease.compromise:
            raise OSError(f"another process has taken {csv} over while this one was suspended: run again to join it") from None
        raise
    finally:
        lease.release()


def remove_abandoned(root: Path) -> None:
    """Removes what killed processes left in a folder of runs, except checkpoints that a run can resume from.

    A killed process leaves its lock, so that the others need not be looked at.
    """
    for lock in root.rglob(".*.lock"):
        csv = lock.with_name(f"{lock.stem[1:]}.csv")
        lease = _lease(csv)
        _remove_unwritten(lock)
        for _ in range(2):  # where names cannot be exchanged, the first attempt removes a dead owner's lock and the second gets it
            with contextlib.suppress(Timeout, OSError, ValueError), lease.acquire(timeout=0):
                _remove_leftovers(csv)
                break


def runs_of(pids: Collection[int], root: Path) -> list[Path]:
    """Returns the tables of the runs in a folder whose locks these processes of this machine hold, or held when they were killed."""
    csvs = [lock.with_name(f"{lock.stem[1:]}.csv") for lock in root.rglob(".*.lock")]
    return [csv for csv in csvs if (owner := _lease(csv).owner) and owner.pid in pids]


def _lease(csv: Path, **options) -> SoftFileLease:
    return SoftFileLease(csv.with_name(f".{csv.stem}.lock"), lease_duration=_LEASE, heartbeat_interval=_TOUCH, **options)


def _acquire(lease: SoftFileLease, csv: Path) -> None:
    for attempt in itertools.count():
        try:
            lease.acquire(timeout=_POLL if attempt else 1)
            return
        except Timeout:
            _remove_unwritten(Path(lease.lock_file))
            if attempt % 6 == 0 and (owner := lease.owner):
                host = owner.hostname.partition("?")[0]
                print(f"process {owner.pid} on {host} is training {csv.name}: waiting for it", flush=True)


def _remove_unwritten(lock: Path) -> None:
    """Removes a lock whose owner was killed between its creation and its first byte, which filelock takes for one that is held."""
    with contextlib.suppress(FileNotFoundError):
        status = lock.stat()
        if status.st_size == 0 and time.time() - status.st_mtime > _UNWRITTEN:
            lock.unlink()


def _remove_leftovers(csv: Path) -> None:
    """Removes temporary files, and the checkpoints from before the run was finished; the caller holds the lock."""
    stem, json = glob.escape(csv.stem), csv.with_suffix(".json")
    finished = json.stat().st_mtime_ns if json.exists() and csv.exists() else 0
    for path in (*csv.parent.glob(f".{stem}.part.*"), *csv.parent.glob(f".{stem}.lock.*"), *csv.parent.glob(f"{stem}.checkpoint*")):
        if path.name.startswith(".") or path.stat().st_mtime_ns <= finished:
            path.unlink(missing_ok=True)
