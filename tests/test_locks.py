"""The lock of a run: one process at a time, whoever has died, and what killed processes left."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from filelock import SoftFileLease

from data.files import atomic_write
from experiments import locks
from experiments.locks import exclusive, remove_abandoned, runs_of
from experiments.records import PROJECT

HOLD = (
    "import pathlib, sys, time; from experiments.locks import exclusive\nwith exclusive(pathlib.Path(sys.argv[1])): print(); time.sleep(60)"
)


@pytest.fixture
def csv(tmp_path):
    """A run whose name has the letters that patterns of file names are made of."""
    return tmp_path / "fig1_left" / "Adam,lr=[0.1,0.2].csv"


@pytest.fixture
def holder(csv):
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, csv], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def kill(process):
    process.kill()
    process.wait()


def names(csv):
    return sorted(path.name for path in csv.parent.iterdir())


def test_a_lock_names_its_owner_and_goes_with_it(csv):
    with exclusive(csv):
        lease = SoftFileLease(csv.with_name(".Adam,lr=[0.1,0.2].lock"))
        assert lease.pid == os.getpid()
        assert runs_of([os.getpid()], csv.parents[1]) == [csv]
    assert names(csv) == []
    with pytest.raises(ZeroDivisionError), exclusive(csv):
        raise ZeroDivisionError
    assert names(csv) == []


def test_who_comes_second_says_for_whom_it_waits_and_follows_at_once_when_that_one_is_killed(csv, holder, capsys):
    threading.Timer(1.5, kill, [holder]).start()
    with exclusive(csv):
        assert holder.poll() is not None
    assert capsys.readouterr().out.startswith(f"process {holder.pid} on {os.uname().nodename} is training {csv.name}: waiting for it")
    assert names(csv) == []


def test_a_lock_of_another_machine_counts_as_long_as_it_is_touched(csv, monkeypatch):
    monkeypatch.setattr(locks, "_LEASE", 1.0)
    monkeypatch.setattr(locks, "_TOUCH", 0.2)
    lock = csv.with_name(f".{csv.stem}.lock")
    lock.parent.mkdir()
    lock.write_text(f"filelock/2\npid=1\nhost=elsewhere\nmode=lease\ntoken={'0' * 32}\nduration=1.0\nstart=1\n")
    stop, start = threading.Event(), time.monotonic()

    def touch():
        while not stop.wait(0.1) and time.monotonic() < start + 1.5:
            os.utime(lock)

    thread = threading.Thread(target=touch)
    thread.start()
    with exclusive(csv):
        assert time.monotonic() > start + 2.4
    stop.set()
    thread.join()
    assert names(csv) == []


def test_a_lock_whose_owner_was_killed_before_it_wrote_its_name_is_removed(csv, monkeypatch):
    lock = csv.with_name(f".{csv.stem}.lock")
    lock.parent.mkdir()
    lock.touch()
    os.utime(lock, (0, 0))
    with exclusive(csv):
        assert lock.stat().st_size > 0


def test_who_has_lost_its_lock_stops(csv, monkeypatch):
    monkeypatch.setattr(locks, "_LEASE", 1.0)
    monkeypatch.setattr(locks, "_TOUCH", 0.1)

    def lose():
        with exclusive(csv):
            csv.with_name(f".{csv.stem}.lock").unlink()
            time.sleep(10)

    with pytest.raises(OSError, match="another process took over .* while this one was suspended"):
        lose()


def test_who_has_lost_its_lock_stops_even_if_it_ignores_ctrl_c(csv):
    """As in `nohup run.py &` from a script."""
    code = f"""
import signal, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.SIG_IGN)
from data.files import atomic_write
from experiments import locks
locks._LEASE, locks._TOUCH = 1.0, 0.1
csv = Path({str(csv)!r})
with locks.exclusive(csv):
    csv.with_name(f".{{csv.stem}}.lock").unlink()
    time.sleep(30)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == -signal.SIGTERM


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OSError, match=r"cannot write .*\.Adam.lock .*: make room, or name another folder"),
        exclusive(tmp_path / "file" / "Adam.csv"),
    ):
        pass


def test_whoever_starts_next_removes_what_belongs_to_nobody_alive(csv, holder):
    """Of a killed run: temporary files, and checkpoints older than its JSON, which nothing can resume from."""
    for suffix in (".part.csv", ".part.json", ".part.checkpoint0"):
        csv.with_name(f".{csv.stem}{suffix}").touch()
    for suffix in (".checkpoint0", ".checkpoint0.previous"):
        csv.with_suffix(suffix).touch()
    other = csv.with_name("Adam.checkpoint0")
    other.touch()
    before = names(csv)
    remove_abandoned(csv.parents[1])
    assert names(csv) == before
    kill(holder)
    remove_abandoned(csv.parents[1])
    assert names(csv) == ["Adam,lr=[0.1,0.2].checkpoint0", "Adam,lr=[0.1,0.2].checkpoint0.previous", "Adam.checkpoint0"]
    for suffix in (".csv", ".json"):
        csv.with_suffix(suffix).touch()
    with exclusive(csv):
        assert names(csv) == [".Adam,lr=[0.1,0.2].lock", "Adam,lr=[0.1,0.2].csv", "Adam,lr=[0.1,0.2].json", "Adam.checkpoint0"]
        csv.with_suffix(".checkpoint1").touch()
        os.utime(csv.with_suffix(".checkpoint1"), (2**32, 2**32))  # of a run that force=true has begun again
    assert csv.with_suffix(".checkpoint1").exists()


def test_a_whole_run_leaves_the_temporary_file_that_the_job_of_a_part_is_writing(csv):
    """The job of part 0 holds another lock than the whole run, and writes the same checkpoint."""
    checkpoint = csv.with_suffix(".checkpoint0")
    with atomic_write(checkpoint) as part:
        part.write_text("half")
        csv.with_name(f".{csv.stem}.part.checkpoint1").touch()  # of a killed job
        with exclusive(csv):
            assert sorted(names(csv)) == [".Adam,lr=[0.1,0.2].lock", ".Adam,lr=[0.1,0.2].part.checkpoint0"]
    assert checkpoint.read_text() == "half"
