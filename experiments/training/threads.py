"""How many CPU threads train: the number that is fastest here and now, never more than the process may use."""

from collections.abc import Callable
from typing import Literal

import torch

# What torch finds at the start: the cores, or in a job of a sweep its share of them.
AVAILABLE = torch.get_num_threads()
_WORTH_IT = 0.9  # another thread should save a tenth: it is taken from other programs
_FAR_SLOWER = 2.0


class Threads:
    """The number of threads of a run, chosen when it starts and again when an epoch takes far longer than expected.

    The numbers that a run writes do not depend on it, unless `Model.depends_on_threads` says so.

    Args:
        threads: how many, or `auto` for the fastest of 1, 2, 4, ... threads. No more than AVAILABLE are used.
        forecast: returns the seconds of an epoch with torch's present number of threads, from a few steps.

    Attributes:
        seconds: the forecast of an epoch.
    """

    def __init__(self, threads: int | Literal["auto"], forecast: Callable[[], float]):
        self._automatic, self._forecast = threads == "auto", forecast
        if isinstance(threads, str):
            self._choose()
        else:
            torch.set_num_threads(min(threads, AVAILABLE))
            self.seconds = forecast()

    def review(self, seconds: float) -> None:
        """Chooses anew if an epoch took `seconds`, far more than the forecast: another program may have come."""
        if self._automatic and seconds > _FAR_SLOWER * self.seconds:
            before = torch.get_num_threads()
            self._choose()
            self.seconds = max(self.seconds, seconds / _FAR_SLOWER)  # what is slow for another reason is not looked into every time
            if torch.get_num_threads() != before:
                print(f"an epoch took {seconds:.1f} s: threads={torch.get_num_threads()} from now on, {before} before", flush=True)

    def _choose(self) -> None:
        best = 1
        for threads in (1, *(2**power for power in range(1, 8) if 2**power < AVAILABLE), AVAILABLE):
            torch.set_num_threads(threads)
            seconds = self._forecast()
            if threads == 1 or seconds < _WORTH_IT * self.seconds:
                best, self.seconds = threads, seconds
        torch.set_num_threads(best)
