"""The workers of a sweep: `python -m tests.faults` kills whole ones."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError

from experiments.locks import exclusive
from experiments.workers import Workers

PARENT = """
import multiprocessing, time
from experiments.process import end_with_parent
def work():
    end_with_parent()
    print(multiprocessing.current_process().pid, flush=True)
    time.sleep(60)
multiprocessing.get_context("fork").Process(target=work).start()
time.sleep(60)
"""


def test_a_worker_ends_with_its_parent():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    worker = int(parent.stdout.readline())
    os.kill(worker, 0)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    with pytest.raises(ProcessLookupError):  # noqa: PT012
        while time.monotonic() < deadline:
            os.kill(worker, 0)
            time.sleep(0.05)
    parent.stdout.close()


def test_the_job_of_a_worker_that_was_killed_is_named(tmp_path):
    workers = Workers(results=tmp_path)
    workers._workers = SimpleNamespace(
        _processes={os.getpid(): SimpleNamespace(exitcode=-signal.SIGKILL), 1: SimpleNamespace(exitcode=None)}
    )
    future = Future()
    future.set_exception(TerminatedWorkerError("The exit codes of the workers are {SIGKILL(-9)}"))
    with (
        exclusive(tmp_path / "Adam.csv"),
        pytest.raises(ChildProcessError, match=rf"that was training {tmp_path}/Adam.csv was ended by SIGKILL"),
    ):
        workers.retrieve_result_callback(future)
