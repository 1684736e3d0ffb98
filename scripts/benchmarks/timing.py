"""How the benchmarks measure: contestants take turns in one run, and medians are compared."""

import statistics
import time
from collections.abc import Callable


def medians(*contestants: Callable[[], float], rounds: int) -> list[float]:
    """The median of the seconds that each contestant reports; they take turns, so that a busy machine is unfair to none."""
    for contestant in contestants:  # warm up
        contestant()
    rows = [[contestant() for contestant in contestants] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def timed(work: Callable[[], object], repeats: int = 1, wait: Callable[[], object] = lambda: None) -> float:
    """The seconds that the work takes each time; `wait` waits for results that the work leaves to a device."""
    wait()
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    wait()
    return (time.perf_counter() - start) / repeats
