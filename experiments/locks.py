"""Locks that let one process at a time train a run: a file beside the CSV names the owner, which touches it while it runs.

The locks are filelock's leases. They need exclusive creation and renames but no system locks, and thus work on network file systems.
A waiting process takes over a dead process's lock: at once on the same machine (by process id and start time), after _LEASE seconds
without a touch on another.
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

from data.files import remove_abandoned_part

_LEASE, _TOUCH = 180.0, 30.0  # seconds; a network file system may show a touch a minute late
_POLL, _UNWRITTEN = 10.0, 10.0


@contextlib.contextmanager
def exclusive(csv: Path) -> Iterator[None]:
    """Holds the lock of the run whose table is `csv`; waits for another owner, with a message once a minute.

    Removes files that killed processes left of the run.

    Raises:
        OSError: the folder cannot be written, or another process took the lock while this one was suspended.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # in the background of a script: nohup run.py &
    lease = _lease(csv, on_compromise=lambda _: os.kill(os.getpid(), signal.SIGTERM if ignored else signal.SIGINT))
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
            raise OSError(f"another process took over {csv} while this one was suspended: run again to join it") from None
        raise
    finally:
        lease.release()


def remove_abandoned(root: Path) -> None:
    """Removes files that killed processes left in a folder of runs, except checkpoints that a run can resume from.

    A killed process leaves its lock: only runs with one are visited.
    """
    for lock in root.rglob(".*.lock"):
        csv = lock.with_name(f"{lock.stem[1:]}.csv")
        lease = _lease(csv)
        _remove_unwritten(lock)
        for _ in range(2):  # without atomic exchange of names, the first attempt removes a dead owner's lock, the second acquires it
            with contextlib.suppress(Timeout, OSError, ValueError), lease.acquire(timeout=0):
                _remove_leftovers(csv)
                break


def runs_of(pids: Collection[int], root: Path) -> list[Path]:
    """Returns the CSVs of runs in a folder whose locks these processes of this machine hold, or held when killed."""
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
    """Removes a lock whose owner was killed before writing its first byte; filelock would treat it as held."""
    with contextlib.suppress(FileNotFoundError):
        status = lock.stat()
        if status.st_size == 0 and time.time() - status.st_mtime > _UNWRITTEN:
            lock.unlink()


def _remove_leftovers(csv: Path) -> None:
    """Removes temporary files, and checkpoints older than the finished run; the caller must hold the lock."""
    stem, json = glob.escape(csv.stem), csv.with_suffix(".json")
    finished = json.stat().st_mtime_ns if json.exists() and csv.exists() else 0
    for path in csv.parent.glob(f".{stem}.part.*"):
        remove_abandoned_part(path)  # a job with part=K, which has a lock of its own, may be writing it
    for path in csv.parent.glob(f".{stem}.lock.*"):
        path.unlink(missing_ok=True)
    for path in csv.parent.glob(f"{stem}.checkpoint*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime_ns <= finished:
                path.unlink()
