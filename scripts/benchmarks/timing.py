"""Timing of contestants that take turns in one process, compared by medians."""

import statistics
import time
from collections.abc import Callable


def medians(*contestants: Callable[[], float], rounds: int) -> list[float]:
    """Returns the median of the seconds that each contestant reports; they take turns, so that other load affects all alike."""
    for contestant in contestants:  # warm up
        contestant()
    rows = [[contestant() for contestant in contestants] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def timed(work: Callable[[], object], repeats: int = 1, wait: Callable[[], object] = lambda: None) -> float:
    """Returns the seconds per call of `work`; `wait` synchronises with the device."""
    wait()
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    wait()
    return (time.perf_counter() - start) / repeats
