"""Sweeps on clusters: whatever happens to their jobs, the CSVs are those of one process on one machine."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize

import slurm
from experiments.records import PROJECT, catalogue
from slurm import ask, until

# Two seeds in shards of one: two jobs for each optimizer. Products and threads are typed in because they change the last bits.
RUNS = (
    "experiment=fig2b optimizer=adam seed=[0,1] epochs=150 evaluate_every=150 model.hidden=50 data.examples=2000 data.source=standin "
    "device=cpu threads=1 products=torch"
)
SECONDS = 240.0  # at most, for every step, on a busy machine


def alone(folder: Path) -> None:
    """Trains the runs in one process."""
    subprocess.run((sys.executable, "run.py", *RUNS.split(), f"results={folder}"), cwd=PROJECT, check=True, capture_output=True)


def sweep(folder: Path, *arguments: str, **options) -> subprocess.Popen:
    """Starts the sweep of the runs with a launcher of Hydra's."""
    (folder / "small.yaml").write_text(f"parallel:\n- {RUNS}\n")
    command = (sys.executable, "-m", "scripts.sweep", str(folder / "small"), f"results={folder / 'cluster'}", *arguments)
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def checkpoints(folder: Path) -> int:
    """Returns how many shards have begun."""
    return len(list(folder.rglob("*.checkpoint[0-9]")))


def trained_since(folder: Path, moment: float) -> bool:
    """Returns whether a shard has finished an epoch after a moment, in seconds since 1970."""
    with contextlib.suppress(FileNotFoundError):  # a checkpoint makes way for the next
        return any(path.stat().st_mtime > moment for path in folder.rglob("*.checkpoint[0-9]"))
    return False


def assert_same_runs(folder: Path) -> None:
    """Compares the CSV of the cluster with that of one process, to the byte; the cluster's run has had several sessions."""
    (one,), (other,) = catalogue(folder / "alone"), catalogue(folder / "cluster")
    assert other.csv.read_bytes() == one.csv.read_bytes()
    assert len(other.facts["sessions"]) > 2
    assert checkpoints(folder) == 0


@pytest.mark.cluster
@pytest.mark.parametrize("name", [path.stem for path in sorted((PROJECT / "conf/hydra/launcher").glob("*.yaml"))])
def test_launchers_have_settings_that_submitit_knows(name):
    known = pytest.importorskip("hydra_plugins.hydra_submitit_launcher.config").SlurmQueueConf.__dataclass_fields__
    with initialize(version_base="1.3", config_path="../conf"):
        launcher = compose("config", [f"hydra/launcher={name}"], return_hydra_config=True).hydra.launcher
    assert {"timeout_min", "signal_delay_s", "max_num_timeout"} < launcher.keys() <= known.keys()


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.skipif(not slurm.INSTALLED, reason="no Slurm: apt-get install munge slurmctld slurmd slurm-client")
def test_slurm_jobs_resume_after_their_time_limit_and_after_preemption(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    alone(tmp_path / "alone")
    (tmp_path / "slurm").mkdir()
    with slurm.cluster(tmp_path / "slurm") as environment:
        settings = [f"hydra.launcher.{one}" for one in ("partition=low", "cpus_per_task=1", "mem_gb=1")]
        with sweep(tmp_path, "hydra/launcher=slurm", *settings, env=environment) as process:
            until(lambda: checkpoints(tmp_path) == 2 or process.poll() is not None, SECONDS)
            ask(environment, "scancel", "--signal=USR2", "--name=adam")  # what Slurm sends before the time limit
            until(lambda: "Restarts=1" in ask(environment, "scontrol", "show", "job"), SECONDS)

            def hurry() -> bool:
                """Lets requeued jobs start at once, where Slurm waits for minutes."""
                for job in re.findall(r"JobId=(\d+) .*?JobState=PENDING", ask(environment, "scontrol", "--oneliner", "show", "job")):
                    ask(environment, "scontrol", "update", f"JobId={job}", "StartTime=now")
                return process.poll() is not None

            restarted = time.time()
            until(lambda: hurry() or trained_since(tmp_path, restarted), SECONDS)  # else the second session leaves no trace
            ask(environment, "sbatch", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=true")
            until(lambda: hurry() or "Restarts=2" in ask(environment, "scontrol", "show", "job"), SECONDS)
            until(hurry, SECONDS)
            output = process.stdout.read()
        assert process.returncode == 0, output
    assert_same_runs(tmp_path)


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Yields the processes that a process has started, directly or not, with their names."""
    lines = subprocess.run(("ps", "-eo", "pid=,ppid=,args="), capture_output=True, text=True, check=True).stdout.splitlines()
    for child, parent, name in (line.split(maxsplit=2) for line in lines):
        if int(parent) == pid:
            yield int(child), name
            yield from descendants(int(child))


@pytest.mark.cluster
@pytest.mark.slow
def test_ray_starts_the_task_of_a_killed_worker_again(tmp_path):
    pytest.importorskip("ray", reason="no Ray: pip install '.[ray]'")
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    alone(tmp_path / "alone")
    settings = [f"+hydra.launcher.ray.init.{one}" for one in ("num_cpus=2", "include_dashboard=false")]
    with sweep(tmp_path, "hydra/launcher=ray", *settings, env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}) as process:
        until(lambda: checkpoints(tmp_path) == 2 or process.poll() is not None, SECONDS)
        worker = next(pid for pid, name in descendants(process.pid) if name.startswith("ray::_run_job"))
        os.kill(worker, signal.SIGKILL)
        output = process.communicate()[0]
    assert process.returncode == 0, output
    assert_same_runs(tmp_path)
