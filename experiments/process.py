"""Settings of a training process. Import before torch: its OpenMP reads the environment when it is loaded."""

import contextlib
import ctypes
import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType


def _cpus_share_cores() -> bool:
    """Returns whether two of the process's CPUs are hardware threads of one core; False where the system does not say."""
    with contextlib.suppress(OSError, AttributeError):
        cpus = os.sched_getaffinity(0)
        return len({Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text() for cpu in cpus}) < len(cpus)
    return False


# Waiting threads sleep: on shared cores a spinning thread blocks the one it waits for, and epochs take up to 30 times as long. On separate
# cores they spin for about 0.1 ms first, because waking a thread takes longer than most tasks.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if not _cpus_share_cores():
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")

# MKL divides a product's sums among threads, so results depend on their number, unless this forbids it. On an Intel Xeon it costs 15 %
# for the multilayer network and nothing for the autoencoder, on an AMD EPYC nothing measurable (results/NOTES.md).
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def _end_quietly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Replaces the traceback of Ctrl-C by a sentence: during the imports, which take seconds, or a second time while a run ends."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted: rerun the command", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _end_quietly

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def prepare_process() -> None:
    """Removes three costs: subnormal numbers, returning freed memory to the system, and slow softplus and log1p."""
    _flush_subnormal_numbers()
    _keep_freed_memory()
    _load_constants_of_log1p()


def _flush_subnormal_numbers() -> None:
    """Makes the processor treat numbers below 1e-38 (float64: 1e-308) as 0, as JAX does.

    Arithmetic with them is slow: a convolution took 4,700 times as long (results/NOTES.md). AdaMax's step does not shrink with the
    gradient, so a penalty drives the weights of units that are always 0 through that range, and evaluating figure 3's network took
    minutes instead of seconds. New threads inherit the setting, so it has to precede torch's first parallel operation.
    """
    import torch

    torch.set_flush_denormal(True)


def _keep_freed_memory() -> None:
    """Makes the C library keep large freed blocks instead of returning them to the system; no effect without glibc.

    The system zeroes returned blocks page by page in the next step, which doubled the time of a population's step.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _load_constants_of_log1p() -> None:
    """Makes softplus and log1p 6x faster with AVX-512, by one call for -0.

    Both read a constant with masked loads. While its page is unmapped, each load costs about 500 cycles: the processor suppresses the
    fault, so the page stays unmapped. An input of -0 uses the constant and maps the page.
    """
    import torch

    torch.log1p(torch.full((16,), -0.0))


def end_with_parent() -> None:
    """Exits when the parent process dies; an orphan would keep training, then wait forever for a job."""
    process = multiprocessing.parent_process()
    parent = process.pid if process else os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
