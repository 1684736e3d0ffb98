"""The number of CPU threads that train: the fastest measured, at most what the process may use."""

from collections.abc import Callable
from typing import Literal

import torch

# torch's number at import: the cores, or this job's share of them in a sweep.
AVAILABLE = torch.get_num_threads()
_WORTH_IT = 0.9  # more threads must save a tenth of the time: other programs could use them
_FAR_SLOWER = 2.0


class Threads:
    """The number of threads of a run, chosen at its start and again after an epoch far slower than forecast.

    Results do not depend on it unless `Model.depends_on_threads`.

    Args:
        threads: their number, at most AVAILABLE, or `auto` for the fastest of 1, 2, 4, ... AVAILABLE.
        forecast: returns the seconds of an epoch with torch's current number of threads, from a few steps.

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
        """Chooses again if an epoch took `seconds`, far more than the forecast: other programs may compete for the cores."""
        if self._automatic and seconds > _FAR_SLOWER * self.seconds:
            before = torch.get_num_threads()
            self._choose()
            self.seconds = max(self.seconds, seconds / _FAR_SLOWER)  # slow for another reason: do not review again
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
