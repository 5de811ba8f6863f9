"""The command line of Open MPI's mpirun.

Since version 5 processes are started by PRRTE, which has parameters of its own, set by --prtemca and named differently ("The
role of PMIx and PRRTE" in Open MPI's documentation); what concerns MPI itself is as it was.
"""

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lbsgd.launch.exported import exported_names
from lbsgd.launch.job import Job

# Open MPI joins two hosts by one TCP connection, and by default asks the other side for each piece of a large message. That
# request waits behind what already flows the other way, so that the two directions take turns. Sending without being asked
# keeps both full: up to twice as fast.
TCP_FLAGS = ("btl_tcp_flags", "send,inplace")

# From this many hosts on mpirun reaches each by itself and all at once. By default hosts start others, as a tree, and one that
# is slow to answer holds up all behind it. horovodrun draws the line here too.
MANY_HOSTS = 64


@dataclass(frozen=True)
class Starter:
    """How to set up what starts the processes. set_parameter: the flag. ssh: the prefix of its parameters for ssh."""

    set_parameter: str
    interface: str
    ssh: str
    tag_output: tuple[str, ...]


STARTERS = {
    "openmpi4": Starter("--mca", "oob_tcp_if_include", "plm_rsh", ("--tag-output",)),
    "openmpi5": Starter("--prtemca", "prte_if_include", "plm_ssh", ("--output", "tag")),
}


def arguments(job: Job, environment: Mapping[str, str], prefix: Path | None) -> list[str]:
    """mpirun and its options, without the command. prefix: the folder of Open MPI on other hosts."""
    starter = STARTERS[job.flavour]
    argv = ["mpirun", "--allow-run-as-root", "-np", str(job.np), *_binding(job)]
    if job.oversubscribe:
        argv += ["--oversubscribe", "--mca", "mpi_yield_when_idle", "1"]  # or ranks that wait keep the others from their core
    if job.tag_output:
        argv += starter.tag_output
    argv += ["-H", job.host_list]
    argv += [starter.set_parameter, "ras", "^slurm"]  # or a Slurm job's tasks, not the slots of -H, would be the most ranks
    if job.hosts is not None:
        argv += _between_hosts(job, job.hosts, starter, environment)
        if prefix is not None:
            argv += ["--prefix", str(prefix)]
    return [*argv, *_exports(job, environment)]


def _binding(job: Job) -> list[str]:
    if job.cores_per_rank is None:
        return ["--bind-to", "none", "--map-by", "slot"]
    return ["--bind-to", "core", "--map-by", f"slot:PE={job.cores_per_rank}"]


def _between_hosts(job: Job, hosts: Mapping[str, int], starter: Starter, environment: Mapping[str, str]) -> list[str]:
    """How hosts are reached, and how ranks talk. What the environment says by itself stays."""
    name, value = TCP_FLAGS
    argv = [] if f"OMPI_MCA_{name}" in environment else ["--mca", name, value]
    if job.interface is not None:
        argv += [starter.set_parameter, starter.interface, job.interface, "--mca", "btl_tcp_if_include", job.interface]
    argv += _through_slurm(hosts, starter, environment)
    if len(hosts) >= MANY_HOSTS:
        argv += [starter.set_parameter, f"{starter.ssh}_no_tree_spawn", "1"]
        argv += [starter.set_parameter, f"{starter.ssh}_num_concurrent", str(len(hosts))]
    return argv


def _through_slurm(hosts: Iterable[str], starter: Starter, environment: Mapping[str, str]) -> list[str]:
    """In a Slurm job mpirun starts its helpers on other hosts by srun. It does not say on which, and Slurm takes its first."""
    here = environment.get("SLURMD_NODENAME", platform.node())
    others = [host for host in hosts if _short(host) != _short(here)]
    if "SLURM_JOB_ID" not in environment or not others:
        return []
    return [starter.set_parameter, "plm_slurm_args", f"--nodes={len(others)} --nodelist={','.join(others)}"]


def _short(host: str) -> str:
    """Slurm's names of hosts have no domain; a host's own name may."""
    return host.partition(".")[0]


def _exports(job: Job, environment: Mapping[str, str]) -> list[str]:
    settings = job.settings(environment)
    names = [name for name in exported_names(environment) if name not in settings]
    assignments = [f"{name}={value}" for name, value in settings.items()]
    return [word for variable in (*names, *assignments) for word in ("-x", variable)]
