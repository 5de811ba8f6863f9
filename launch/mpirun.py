"""mpirun: render its argument list, then run it and end its ranks with it."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from lbsgd.launch import hydra, open_mpi
from lbsgd.launch.job import Job
from lbsgd.launch.mpi_flavour import require_mpirun

SAVE_SECONDS = 60
END_SECONDS = 10


def render(job: Job, environment: Mapping[str, str], prefix: Path | None = None) -> list[str]:
    """The argument list that starts `job`. Nothing is run, and nothing but the arguments is read; only in a Slurm job that
    does not tell it, this host's name.

    environment: the variables of the caller; those on the allow-list are exported by name.
    prefix: the folder of Open MPI on the remote hosts, whose shells do not know the virtual environment.
    """
    if job.flavour in open_mpi.STARTERS:
        argv = open_mpi.arguments(job, environment, prefix)
    else:
        argv = hydra.arguments(job, environment)
    return [*argv, *job.mpi_args, *job.command]


def remote_prefix() -> Path:
    """The folder of the MPI whose mpirun is first on PATH; other hosts are taken to have it at the same place."""
    return Path(require_mpirun()).parent.parent


def console_script() -> str:
    """The `lbsgd` script beside this interpreter: ranks are started through it, never with `python -m` in a checkout."""
    return str(Path(sys.executable).parent / "lbsgd")


def start(job: Job, *, environment: Mapping[str, str] = os.environ, output: BinaryIO | None = None) -> int:
    """Start `job` by this host's mpirun, and return its exit code when its ranks have ended, as `run` does."""
    return run(render(job, environment, remote_prefix()), environment=environment, output=output)


def run(argv: list[str], *, environment: Mapping[str, str] | None = None, output: BinaryIO | None = None) -> int:
    """Run mpirun and return its exit code. environment: its variables instead of ours; output: where all it says goes.

    SIGINT, SIGTERM and SIGHUP (unless ignored, as under nohup) become SIGUSR1, which every mpirun passes to all ranks at once:
    they save their state and leave. The second signal, or SAVE_SECONDS, ends them; mpirun's own handling would leave the
    ranks one second. The third, or END_SECONDS, kills what does not end. The exit code is then 130 after Ctrl-C and
    143 after all others. When this process is killed, mpirun gets SIGTERM and ends the ranks.
    """
    process = subprocess.Popen(
        argv, env=environment, stdout=output, stderr=output, start_new_session=True, preexec_fn=_end_with_parent
    )
    received: list[int] = []

    def forward(number: int, _frame) -> None:
        received.append(number)
        if len(received) == 1:
            process.send_signal(signal.SIGUSR1)  # SIGUSR2 would end Hydra
            signal.alarm(SAVE_SECONDS)
        elif len(received) == 2:
            process.terminate()
            signal.alarm(END_SECONDS)
        else:
            _kill_with_ranks(process)

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


def _kill_with_ranks(process: subprocess.Popen) -> None:
    """Kill mpirun and its ranks on this host; on others its daemons notice that it is gone."""
    import psutil

    ranks = psutil.Process(process.pid).children(recursive=True) if psutil.pid_exists(process.pid) else []
    process.kill()
    for rank in ranks:
        with contextlib.suppress(psutil.NoSuchProcess):
            rank.kill()


# In a session of its own mpirun would not notice that we are gone, and hold the GPUs for ever. The kernel tells it at once; a
# watch on the parent in every rank would be a thread more in each, and blind on other hosts, where the parent is another.
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _end_with_parent() -> None:
    """Have the kernel send this process SIGTERM when its parent ends, however that ends (prctl(2), Linux)."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
