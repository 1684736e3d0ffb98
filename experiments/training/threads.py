"""The number of CPU threads that train: the fastest measured, at most what the process may use."""

from collections.abc import Callable
from typing import Literal

import torch

# torch's number at import: the cores, or this job's share of them in a sweep.
AVAILABLE = torch.get_num_threads()
_WORTH_IT = 0.9  # more threads must save a tenth of the time: other programs could use them
# An epoch that leads to another number of threads, over the forecast; and after that has not helped, over the epoch before.
_FAR_SLOWER, _SLOWER_STILL = 2.0, 1.25


class Threads:
    """The number of threads of a run: the fastest at its start; one, if an epoch takes far longer than forecast and one is faster then.

    Results do not depend on it unless `Model.depends_on_threads`.

    Args:
        threads: their number, at most AVAILABLE, or `auto` for the fastest of 1, 2, 4, ... AVAILABLE.
        forecast: returns the seconds of an epoch with torch's current number of threads, from a few steps.

    Attributes:
        seconds: the forecast of an epoch.
    """

    def __init__(self, threads: int | Literal["auto"], forecast: Callable[[], float]):
        self._automatic = threads == "auto"
        self._slow: tuple[int, float] | None = None  # number of threads and seconds of the slow epoch that led to one thread
        if isinstance(threads, str):
            self._choose(forecast)
        else:
            torch.set_num_threads(min(threads, AVAILABLE))
            self.seconds = forecast()
        self._limit = _FAR_SLOWER * self.seconds

    def review(self, seconds: float) -> None:
        """Takes the seconds of every epoch. Tries one thread after a far slower epoch than forecast: other programs may compete."""
        threads = torch.get_num_threads()
        if self._slow:
            before, slow = self._slow
            self._slow = None
            if seconds > slow:
                self._limit = _SLOWER_STILL * slow
                self._change(before, f"an epoch took {seconds:.1f} s, with {before} threads {slow:.1f} s")
        elif self._automatic and threads > 1 and seconds > self._limit:
            self._slow = threads, seconds
            self._change(1, f"an epoch took {seconds:.1f} s, {self.seconds:.1f} s were forecast")

    @staticmethod
    def _change(threads: int, reason: str) -> None:
        print(f"{reason}: threads={threads} from now on, {torch.get_num_threads()} before", flush=True)
        torch.set_num_threads(threads)

    def _choose(self, forecast: Callable[[], float]) -> None:
        best = 1
        for threads in (1, *(2**power for power in range(1, 8) if 2**power < AVAILABLE), AVAILABLE):
            torch.set_num_threads(threads)
            seconds = forecast()
            if threads == 1 or seconds < _WORTH_IT * self.seconds:
                best, self.seconds = threads, seconds
        torch.set_num_threads(best)
