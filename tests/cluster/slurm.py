"""A real Slurm over the hosts of a cluster: its controller on the first of them, a slurmd on each.

The daemons are processes of the hosts and end with them. One munged, outside, proves to all of them who asks. Nothing of the
machine's own Slurm, if it has one, is read or written.
"""

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .hosts import SERVERS_PATH, Cluster

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")

# linuxproc and task/none leave the kernel's control groups alone. A credential that expires soon lets a requeued job start
# again soon. The GPUs are empty files.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={first}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir=/run/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
TmpFS=/run
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1
GresTypes=gpu
NodeName={nodes} CPUs=2 RealMemory=1000 Gres=gpu:a100:2
PartitionName=all Nodes={nodes} Default=YES MaxTime=60
"""
GPUS = "Name=gpu Type=a100 File=/run/gpu[0-1]\n"
BOOT = """
mkdir /run/slurmd
touch /run/gpu0 /run/gpu1
exec slurmd -f "$1" -N "$2"
"""


@dataclass(frozen=True)
class Slurm:
    """A Slurm that is up."""

    cluster: Cluster
    configuration: Path

    def command(self, *arguments: object) -> list[str]:
        """The command that runs `arguments` on the first host, as a user of this Slurm."""
        return self.cluster.hosts[0].command("env", f"SLURM_CONF={self.configuration}", *arguments)

    def run(self, *arguments: object) -> str:
        """Standard output of a command that is to succeed."""
        return subprocess.run(self.command(*arguments), timeout=60, check=True, stdout=subprocess.PIPE, text=True).stdout

    def job(self, number: str) -> dict[str, str]:
        """What Slurm says of a job, by its names: JobState, Restarts, ExitCode and so on."""
        words = self.run("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait_for_state(self, number: str, *states: str, timeout: float = 120.0) -> dict[str, str]:
        """What Slurm says of a job once it is in one of `states`."""
        wait_until(lambda: self.job(number)["JobState"] in states, timeout, f"job {number} to be {' or '.join(states)}")
        return self.job(number)


def whats_missing() -> str | None:
    """Which programs of Slurm this machine lacks; None when it has all."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=SERVERS_PATH) is None]
    return f"not installed: {', '.join(absent)} (Debian: slurm-wlm, munge)" if absent else None


@contextmanager
def slurm(cluster: Cluster, folder: Path) -> Iterator[Slurm]:
    """A Slurm over all hosts of `cluster`. folder: empty, for what it needs; its logs stay there.

    Raises TimeoutError when its nodes do not come up.
    """
    running = Slurm(cluster, folder / "slurm.conf")
    names = ",".join(cluster.names)
    running.configuration.write_text(CONFIGURATION.format(first=cluster.names[0], nodes=names, folder=folder))
    (folder / "gres.conf").write_text(GPUS)
    (folder / "state").mkdir()
    with _munged(folder):
        cluster.hosts[0].run("slurmctld", "-f", running.configuration)
        for host in cluster.hosts:
            host.run("sh", "-e", "-c", BOOT, "boot", running.configuration, host.name)
        wait_until(lambda: running.run("sinfo", "-h", "-o", "%T").split() == ["idle"], 30, f"idle nodes; logs in {folder}")
        yield running


@contextmanager
def _munged(folder: Path) -> Iterator[None]:
    """munge's server, with a key of its own. --force: others than us need not reach its socket."""
    key, socket = folder / "munge.key", folder / "munge.socket"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    files = {"key-file": key, "socket": socket, "pid-file": folder / "munge.pid", "seed-file": folder / "munge.seed"}
    command = ["setpriv", "--pdeathsig", "TERM", "munged", "--foreground", "--force"]
    command += [f"--{name}={path}" for name, path in files.items()]
    environment = {**os.environ, "PATH": SERVERS_PATH}
    with (folder / "munged.log").open("w") as log, subprocess.Popen(command, env=environment, stderr=log) as server:
        try:
            wait_until(socket.exists, 10, f"munged; {log.name}")
            yield
        finally:
            server.terminate()


def wait_until(holds: Callable[[], bool], timeout: float, what: str) -> None:
    """Raise TimeoutError unless it holds within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:.0f} s for {what}")
        time.sleep(0.2)
