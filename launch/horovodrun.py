"""horovodrun's command line, such that Horovod 0.28.1 starts the ranks with it.

horovodrun makes a line for a shell out of it, in which the command is quoted and nothing else is: what comes before the command
must be quoted here.
"""

import shlex
import shutil
from pathlib import Path

from lbsgd.errors import EnvironmentNotReady
from lbsgd.launch.job import Job
from lbsgd.launch.open_mpi import TCP_FLAGS


def require_horovodrun(flavour: str) -> str:
    """The path of horovodrun.

    Raises EnvironmentNotReady when there is none on PATH, and for an mpirun that it cannot talk to.
    """
    path = shutil.which("horovodrun")
    if path is None:
        raise EnvironmentNotReady("no horovodrun on PATH; activate the environment that has it, or run `lbsgd horovod build`")
    if flavour == "openmpi5":
        raise EnvironmentNotReady(
            "mpirun is of Open MPI 5, and Horovod 0.28.1 gives it options that it takes for the program to start; "
            "use lbsgd launch mpirun, with the same options"
        )
    return path


def render(job: Job, prefix: Path | None = None, output_filename: Path | None = None) -> list[str]:
    """The argument list that starts `job`. Pure.

    prefix: the folder of Open MPI on the remote hosts. output_filename: the folder for what each rank says.
    """
    argv = ["horovodrun", "-np", str(job.np), "--mpi", "-H", job.host_list]
    if job.network is not None:
        argv += ["--network-interfaces", job.network]
    if output_filename is not None:
        argv += ["--output-filename", shlex.quote(str(output_filename))]
    open_mpi = _open_mpi_arguments(job, prefix) if job.flavour == "openmpi4" else []
    if mpi_args := [*open_mpi, *job.mpi_args]:
        argv.append(f"--mpi-args={shlex.join(mpi_args)}")
    return [*argv, *job.command]


def _open_mpi_arguments(job: Job, prefix: Path | None) -> list[str]:
    """What `lbsgd launch mpirun` gives too, and horovodrun does not."""
    argv = ["--oversubscribe"] if job.oversubscribe else []
    argv += ["--mca", "ras", "^slurm"]
    if job.hosts is not None:
        argv += ["--mca", *TCP_FLAGS]
        if job.interface is not None:
            argv += ["--mca", "oob_tcp_if_include", job.interface]
        if prefix is not None:
            argv += ["--prefix", str(prefix)]
    return argv
