"""The command line of Hydra, which starts the ranks of MPICH and, in a version that went its own way, of Intel MPI.

Hydra finds its own programs on other hosts by the path that it has here, so it needs no prefix. It knows no limit of slots:
more ranks than slots begin again at the first host. Its programs on other hosts are told all of the caller's environment; the
ranks there get what they are to get.
"""

import math
from collections.abc import Mapping

from lbsgd.launch.exported import exported_names
from lbsgd.launch.hosts import THIS_HOST
from lbsgd.launch.job import Job


def arguments(job: Job, environment: Mapping[str, str]) -> list[str]:
    """Hydra and its options, without the command."""
    # Intel's mpirun is a shell script around mpiexec.hydra that passes no signal on to it.
    start, where = ("mpiexec.hydra", _intel_hosts) if job.flavour == "intel" else ("mpirun", _mpich_hosts)
    argv = [start, "-n", str(job.np), *where(job)]
    if job.network is not None:
        argv += ["-iface", job.network]
    if job.tag_output:
        argv.append("-prepend-rank")
    return [*argv, *_exports(job, environment)]


def _mpich_hosts(job: Job) -> list[str]:
    binding = "none" if job.cores_per_rank is None else f"core:{job.cores_per_rank}"
    return ["-hosts", job.host_list, "-bind-to", binding]


def _intel_hosts(job: Job) -> list[str]:
    """Intel's hosts have no slots, but the same number of ranks each; one that is named twice has twice as many."""
    slots = job.hosts or {THIS_HOST: job.np}
    each = math.gcd(*slots.values())
    names = [name for name, count in slots.items() for _ in range(count // each)]
    return ["-hosts", ",".join(names), "-ppn", str(each)]


def _intel_binding(job: Job) -> dict[str, str]:
    """Intel MPI Library Developer Reference, "Process Pinning"."""
    if job.cores_per_rank is None:
        return {"I_MPI_PIN": "off"}
    return {"I_MPI_PIN_CELL": "core", "I_MPI_PIN_DOMAIN": f"{job.cores_per_rank}:compact"}


def _exports(job: Job, environment: Mapping[str, str]) -> list[str]:
    """Every variable with its value: of a list of names (-genvlist) MPICH 5.0 loses the last variable of the environment."""
    variables = {name: environment[name] for name in exported_names(environment)} | job.settings(environment)
    if job.network is not None:
        variables.setdefault("FI_TCP_IFACE", job.network)
    if job.flavour == "intel":
        variables |= _intel_binding(job)
    return ["-genvnone", *(word for name, value in variables.items() for word in ("-genv", name, value))]
