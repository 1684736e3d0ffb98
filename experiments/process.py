"""What a process that trains asks of the machine. Imported before torch, whose OpenMP reads the environment when it is loaded."""

import contextlib
import ctypes
import multiprocessing
import os
import sys
import threading
import time
from types import TracebackType

# Threads that wait for each other sleep instead of spinning: a spinning thread keeps the one it waits for from running as soon as another
# program wants the core, and an epoch then takes up to thirty times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _end_quietly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Answers Ctrl-C during the imports, which take seconds, in one word."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _end_quietly

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def prepare_process() -> None:
    """Removes two costs of the C library and of torch's vectorised functions that would return in every step."""
    _keep_freed_memory()
    _load_constants_of_log1p()


def _keep_freed_memory() -> None:
    """Lets the C library keep memory that was freed, where it would give large blocks back to the system.

    There each of them comes back page by page in the next step, zeroed, which doubled the time of a population's step. Does nothing
    where the C library has no such setting.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _load_constants_of_log1p() -> None:
    """Makes softplus and log1p six times as fast with AVX-512.

    For -0 they read a constant by a masked load. Until its page has been read once, every such load ends in a fault that the processor
    suppresses, in some 500 cycles, and so the page stays away. One -0 brings it in.
    """
    import torch

    torch.log1p(torch.full((16,), -0.0))


def end_with_parent() -> None:
    """Ends this process when its parent has died; it would train on and then wait for ever for a job."""
    process = multiprocessing.parent_process()
    parent = process.pid if process else os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
