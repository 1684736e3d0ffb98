"""The number of CPU threads that train: the fastest measured, at most what the process may use."""

import math
from collections.abc import Callable
from typing import Literal

import torch

# torch's number at import: the cores, or this job's share of them in a sweep.
AVAILABLE = torch.get_num_threads()
_WORTH_IT = 0.9  # more threads must save a tenth of the time: other programs could use them
# One thread is tried after an epoch of this many times the forecast; after a trial that failed, of this many times the epoch before it.
_FAR_SLOWER, _SLOWER_STILL = 2.0, 1.25
_EPOCHS_OF_ONE = 16  # before more threads are tried again: the other programs may have ended


class Threads:
    """The number of threads of a run: the fastest at its start; one while other programs make more threads slower.

    After an epoch far slower than forecast, one thread is tried for an epoch. If it is faster, more are tried again after 16 epochs, then
    after 32, 64, ....

    Results do not depend on it unless `TrainState.depends_on_threads`.

    Args:
        threads: their number, at most AVAILABLE, or `auto` for the fastest of 1, 2, 4, ... AVAILABLE.
        forecast: returns the seconds of an epoch with torch's current number of threads, from a few steps.

    Attributes:
        seconds: the forecast of an epoch.
    """

    def __init__(self, threads: int | Literal["auto"], forecast: Callable[[], float]):
        self._trial: tuple[int, float] | None = None  # during an epoch with another number of threads: the number and seconds before it
        self._more, self._epochs, self._patience = (
            1,
            0,
            _EPOCHS_OF_ONE,
        )  # threads to return to, epochs with one, epochs before a trial
        self._limit = math.inf
        if isinstance(threads, str):
            self.seconds = _choose(forecast)
            self._limit = _FAR_SLOWER * self.seconds
        else:
            torch.set_num_threads(min(threads, AVAILABLE))
            self.seconds = forecast()

    def review(self, seconds: float) -> None:
        """Takes the seconds of every epoch; may change the number of threads for the next."""
        threads = torch.get_num_threads()
        if self._trial:
            before, earlier = self._trial
            self._trial = None
            if seconds > earlier:
                if before > threads:
                    self._limit = _SLOWER_STILL * earlier
                else:
                    self._patience *= 2
                self._change(before, f"an epoch took {seconds:.2g} s, with {_threads(before)} {earlier:.2g} s")
        elif threads > 1 and seconds > self._limit:
            self._more = threads
            self._try(1, seconds, f"an epoch took {seconds:.2g} s, {self.seconds:.2g} s were forecast")
        elif threads < self._more:
            self._epochs += 1
            if self._epochs == self._patience:
                self._try(self._more, seconds, f"{self._epochs} epochs with {_threads(threads)}")

    def _try(self, threads: int, seconds: float, reason: str) -> None:
        self._trial, self._epochs = (torch.get_num_threads(), seconds), 0
        self._change(threads, reason)

    @staticmethod
    def _change(threads: int, reason: str) -> None:
        print(f"{reason}: threads={threads} in the next epoch, {torch.get_num_threads()} before", flush=True)
        torch.set_num_threads(threads)


def _choose(forecast: Callable[[], float]) -> float:
    """Sets the fastest number of threads; returns its forecast."""
    best, least = 1, math.inf
    for threads in dict.fromkeys((1, *(2**power for power in range(1, 8) if 2**power < AVAILABLE), AVAILABLE)):
        torch.set_num_threads(threads)
        seconds = forecast()
        if threads == 1 or seconds < _WORTH_IT * least:
            best, least = threads, seconds
    torch.set_num_threads(best)
    return least


def _threads(number: int) -> str:
    return f"{number} thread{'s' * (number > 1)}"
