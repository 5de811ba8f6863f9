"""Whether the installed Horovod works: two real ranks meet over MPI and reduce tensors of known sum."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil

from lbsgd.errors import EnvironmentNotReady
from lbsgd.launch.job import Job
from lbsgd.launch.mpi_flavour import find_flavour
from lbsgd.launch.mpirun import render

PROGRAM = Path(__file__).with_name("allreduce_program.py")
RANKS = 2
# Importing TensorFlow from a cold network file system takes minutes; a hang takes for ever.
TIMEOUT_SECONDS = 300.0


def verify_allreduce(framework: str) -> dict[str, object]:
    """Reduce tensors on RANKS ranks of this machine.

    Returns what the program reports: ranks, device ("cpu", "cuda"), and mpi, gloo, nccl, cuda as bools.

    Raises EnvironmentNotReady when the ranks do not start, do not meet, or compute something else.
    """
    # -P: the program's own folder, full of lbsgd's modules, stays off the ranks' sys.path.
    argv = launch_line((sys.executable, "-P", str(PROGRAM), framework))
    output, errors, code = run_bounded(argv, TIMEOUT_SECONDS)
    if code != 0:
        raise EnvironmentNotReady(f"Horovod does not work with {framework}: {reason(errors, code)}")
    reports = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    if len(reports) != 1 or reports[0]["ranks"] != RANKS:
        raise EnvironmentNotReady(
            f"{RANKS} ranks of Horovod with {framework} did not meet: mpirun is not of the MPI that Horovod "
            f"was built with; put the MPI you want first on PATH and run `lbsgd horovod build`"
        )
    return reports[0]


def launch_line(command: tuple[str, ...]) -> list[str]:
    """The arguments that start `command` as RANKS ranks on this machine, whichever MPI mpirun is of."""
    return render(Job(np=RANKS, command=command, oversubscribe=True, flavour=find_flavour()), os.environ)


def run_bounded(argv: list[str], timeout: float) -> tuple[str, str, int | None]:
    """Output, errors and exit code of a command, None when it was killed after `timeout` seconds."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        return *process.communicate(), None
    return output, errors, process.returncode


def reason(errors: str, code: int | None) -> str:
    """The line of the ranks' error output that says most."""
    if code is None:
        return f"no result after {TIMEOUT_SECONDS:.0f} s"
    lines = [line.strip() for line in errors.splitlines() if line.strip(" -")]  # mpirun frames its messages
    telling = [line for line in lines if "Error" in line or "must be" in line]
    return (telling or lines or [f"exit code {code} without a message"])[0]
