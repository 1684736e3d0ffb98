"""The worker processes of a sweep (-m): they exit with their parent, and if the system kills one, the error names its job."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import LokyBackend

from experiments.locks import runs_of
from experiments.process import end_with_parent
from experiments.records import display_path


def register_workers(results: Path) -> None:
    """Makes joblib, and thus Hydra's joblib launcher, start `Workers`; `results` is the folder of the runs."""
    joblib.register_parallel_backend("loky", partial(Workers, results=results))


class Workers(LokyBackend):
    """Worker processes that exit when their parent dies.

    Args:
        results: the folder of the runs.
        options: passed to joblib's backend.
    """

    def __init__(self, *, results: Path, **options: Any):
        super().__init__(initializer=end_with_parent, **options)
        self._results = results

    def retrieve_result_callback(self, future: Any) -> Any:
        """Returns the result of a job.

        Raises:
            ChildProcessError: a worker was killed.
        """
        try:
            return super().retrieve_result_callback(future)
        except TerminatedWorkerError as error:
            # loky calls this before it kills the remaining workers: only the culprit is dead.
            killed = {pid for pid, worker in self._workers._processes.items() if worker.exitcode is not None}
            jobs = " and ".join(map(display_path, runs_of(killed, self._results))) or "a job that was starting"
            signal = " or ".join(re.findall(r"SIG[A-Z]+", str(error))) or "an exit"
            raise ChildProcessError(
                f"the process that was training {jobs} was ended by {signal}, which the system sends when memory is short: run the same "
                "command again and all jobs resume; hydra.launcher.n_jobs=1 needs the least memory"
            ) from None
