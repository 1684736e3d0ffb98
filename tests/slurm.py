"""A Slurm cluster of one node on this machine: munged, slurmctld and slurmd, on loopback, from Debian's packages."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

INSTALLED = all(shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") for program in ("munged", "slurmctld", "slurmd", "sbatch"))
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=20
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_min_interval=1000000,bf_interval=1
MpiDefault=none
MailProg=/bin/true
KillWait=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000
PartitionName=low Nodes=ALL Default=YES PriorityTier=1
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Starts the daemons and yields the environment of their clients; ends the daemons with the block."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    for name in ("state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    configuration, key = folder / "slurm.conf", folder / "munge.key"
    configuration.write_text(CONFIGURATION.format(host=socket.gethostname().partition(".")[0], folder=folder, ports=ports))
    key.write_bytes(secrets.token_bytes(64))
    key.chmod(0o400)
    environment = os.environ | {"SLURM_CONF": str(configuration), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    munge = [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    daemons = (["munged", "--foreground", "--force", f"--key-file={key}", *munge], ["slurmctld", "-D"], ["slurmd", "-D"])
    with contextlib.ExitStack() as stack:
        for command in daemons:
            output = stack.enter_context((folder / f"{command[0]}.out").open("w"))
            daemon = stack.enter_context(subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT))
            stack.callback(daemon.terminate)
        until(lambda: "idle" in ask(environment, "sinfo", "--noheader", "--format=%t"), 60)
        yield environment
        ask(environment, "scancel", "--user=root")


def ask(environment: dict[str, str], *command: str) -> str:
    """Returns what a command prints, or nothing if it fails."""
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout


def until(condition, seconds: float) -> None:
    """Waits until the condition is met, and fails if that takes longer than `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"nothing after {seconds} s"
        time.sleep(0.2)
