"""What a launcher is asked to start."""

from collections.abc import Mapping
from dataclasses import dataclass

from lbsgd.launch.hosts import THIS_HOST, host_list
from lbsgd.launch.mpi_flavour import Flavour


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command to start as `np` ranks.

    hosts: slots by host, in the order in which ranks fill them; None means this host. interface: the network interface that
    ranks on several hosts talk through, by the name that it has on all of them; None leaves the choice to MPI and NCCL.
    oversubscribe: more ranks than slots are allowed. cores_per_rank: each rank is bound to this many cores and has as many
    threads; None binds none. mpi_args: handed to mpirun as they are, after everything else.
    """

    np: int
    command: tuple[str, ...]
    hosts: Mapping[str, int] | None = None
    interface: str | None = None
    oversubscribe: bool = False
    cores_per_rank: int | None = None
    tag_output: bool = False
    mpi_args: tuple[str, ...] = ()
    flavour: Flavour = "openmpi4"

    @property
    def network(self) -> str | None:
        """The interface, where there are several hosts to talk through it."""
        return None if self.hosts is None else self.interface

    @property
    def host_list(self) -> str:
        """The hosts as launchers write them: "a:4,b:4"."""
        return host_list(self.hosts or {THIS_HOST: self.np})

    def settings(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Environment variables that say to all ranks, whatever their MPI, what the job says."""
        found = {}
        if self.cores_per_rank is not None:
            found["OMP_NUM_THREADS"] = str(self.cores_per_rank)
        if self.network is not None and "NCCL_SOCKET_IFNAME" not in environment:
            found["NCCL_SOCKET_IFNAME"] = self.network
        return found
