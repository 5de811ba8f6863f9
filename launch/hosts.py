"""The hosts and slots that a job may use: named by the user, given by a scheduler, or this host alone.

A scheduler is one row of SCHEDULERS: the variable by which it is known, and the function that reads what it says. Nothing is
asked of the scheduler's commands, so that the same environment always gives the same allocation.
"""

import itertools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from lbsgd.errors import EnvironmentNotReady, UsageError

THIS_HOST = "localhost"

Value = TypeVar("Value")


@dataclass(frozen=True)
class Allocation:
    """Slots by host, in the order in which ranks fill them; who said so; what a slot is."""

    slots: dict[str, int]
    source: str
    """One of "--hosts", "--hostfile FILE", "Slurm job 17", "PBS job 17", "LSF job 17", "MPIJob" or "this host"."""
    of: str
    """One of "slots", "GPUs", "tasks", "CPU cores"."""

    @property
    def total(self) -> int:
        return sum(self.slots.values())

    @property
    def is_local(self) -> bool:
        """Whether it is this host alone, by the name that needs no network."""
        return list(self.slots) == [THIS_HOST]

    def first(self, np: int) -> dict[str, int]:
        """The slots that `np` ranks take when they fill host after host.

        More ranks than slots (oversubscribed) take all hosts, each with its slots.
        """
        taken, left = {}, np
        for host, slots in self.slots.items():
            if left > 0:
                taken[host] = min(slots, left)
                left -= slots
        return taken

    def hosts(self, np: int) -> dict[str, int] | None:
        """`first` as a Job has it: None for this host alone."""
        return None if self.is_local else self.first(np)


def find_allocation(environment: Mapping[str, str], *, hosts: str | None = None, hostfile: Path | None = None) -> Allocation:
    """What `hosts` ("a:8,b:8") or `hostfile` name, else what the scheduler in `environment` gave, else this host.

    Raises UsageError when `hosts` or `hostfile` is malformed or both are given, EnvironmentNotReady when what a scheduler
    says cannot be understood.
    """
    if hosts is not None and hostfile is not None:
        raise UsageError("--hosts and --hostfile both say which hosts to use; give one of them")
    if hosts is not None:
        return Allocation(parse_hosts(hosts), "--hosts", "slots")
    if hostfile is not None:
        return Allocation(_given_hostfile(hostfile), f"--hostfile {hostfile}", "slots")
    for variable, read in SCHEDULERS.items():
        if environment.get(variable):
            return read(environment, variable)
    count, of = local_slots()
    return Allocation({THIS_HOST: count}, "this host", of)


def require(allocation: Allocation, np: int) -> None:
    """Raise EnvironmentNotReady when `np` ranks are more than the allocation has slots."""
    if np > allocation.total:
        raise EnvironmentNotReady(
            f"{np} ranks, but {allocation.source} has {allocation.total} {allocation.of}; ask for at most {allocation.total}, "
            "share slots with --oversubscribe (the result is then marked as not a scaling figure), "
            f"or predict it with lbsgd project --gpus {np}"
        )


def local_slots() -> tuple[int, str]:
    """Ranks this host can take, and of what: one per GPU, or one per CPU core where there is none."""
    gpus = [path for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    if gpus:
        return len(gpus), "GPUs"
    return len(os.sched_getaffinity(0)), "CPU cores"


def host_list(slots: Mapping[str, int]) -> str:
    """Slots by host as launchers write them: "a:4,b:4"."""
    return ",".join(f"{host}:{count}" for host, count in slots.items())


def parse_hosts(hosts: str) -> dict[str, int]:
    """A host list "a:4,b:4" as slots by host; a host without a number has one slot.

    Raises UsageError for anything else.
    """
    try:
        return sum_slots(hosts.split(","))
    except ValueError as error:
        raise UsageError(f"--hosts {hosts!r}: {error}; give e.g. node1:8,node2:8") from error


def sum_slots(entries: Iterable[str]) -> dict[str, int]:
    """Slots by host, in order, of entries "a:4", or "a" for one slot; a host that is named twice has the sum.

    Raises ValueError for anything else, and for no entry at all.
    """
    slots: dict[str, int] = {}
    for entry in entries:
        match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?::([1-9]\d*))?", entry)
        if not match:
            raise ValueError(f"{entry!r} is not HOST or HOST:SLOTS")
        slots[match[1]] = slots.get(match[1], 0) + int(match[2] or 1)
    if not slots:
        raise ValueError("it names no host")
    return slots


def read_hostfile(path: Path) -> dict[str, int]:
    """Slots by host of a file with a host a line: "host slots=8", "host:8", or "host" for one slot.

    The first is Open MPI's form (mpirun(1), "hostfile"), whose max_slots is skipped; it would give a bare host a slot per core,
    but horovodrun and MPICH's hydra, whose form is the second ("Using the Hydra Process Manager"), give it one. Text after
    "#" is a comment. Raises OSError and ValueError.
    """
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return sum_slots(re.sub(r"\s+slots=(\d+)(\s+max[_-]slots=\d+)?$", r":\1", line) for line in lines if line)


def expand_nodes(nodes: str) -> list[str]:
    """The names in Slurm's short form: "n[1-2,07],gpu-a[01-02]b" is n1, n2, n07, gpu-a01b, gpu-a02b.

    A range keeps the width of its first number; of several brackets in a name the last varies fastest. The notation is in
    scontrol(1), "show hostnames". Raises ValueError.
    """
    entries = re.findall(r"(?:[^,\[\]]|\[[^\[\]]*\])+", nodes)
    if ",".join(entries) != nodes:
        raise ValueError("its brackets or commas do not match")
    return [name for entry in entries for name in _expand_entry(entry)]


def _expand_entry(entry: str) -> list[str]:
    pieces = re.split(r"\[(.*?)\]", entry)
    choices = [_expand_numbers(piece) if place % 2 else [piece] for place, piece in enumerate(pieces)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _expand_numbers(numbers: str) -> list[str]:
    expanded = []
    for item in numbers.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", item)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"{item!r} is not a number or a range")
        expanded += [str(n).zfill(len(match[1])) for n in range(int(match[1]), int(match[2] or match[1]) + 1)]
    return expanded


def _slurm(environment: Mapping[str, str], variable: str) -> Allocation:
    """sbatch(1), "OUTPUT ENVIRONMENT VARIABLES"."""
    nodes = _read(environment, variable, lambda text: list(sum_slots(expand_nodes(text))))
    slots, of = _slurm_slots(environment, len(nodes))
    return Allocation(dict(zip(nodes, slots, strict=True)), f"Slurm job {environment.get('SLURM_JOB_ID', '?')}", of)


def _slurm_slots(environment: Mapping[str, str], nodes: int) -> tuple[list[int], str]:
    """Slots of each node, and of what. GPUs come before tasks: many ask for eight GPUs and leave the tasks at one.

    GPUS_PER_NODE is set by --gpus-per-node only. GPUS_ON_NODE is set however GPUs were asked for, but tells of this node; the
    others are taken to have as many.
    """
    for variable in ("SLURM_GPUS_PER_NODE", "SLURM_GPUS_ON_NODE"):
        if environment.get(variable, "0") != "0":
            return [_read(environment, variable, _count)] * nodes, "GPUs"
    if "SLURM_TASKS_PER_NODE" in environment:
        return _read(environment, "SLURM_TASKS_PER_NODE", partial(_counts, nodes)), "tasks"
    return [_read(environment, "SLURM_CPUS_ON_NODE", _count)] * nodes, "CPU cores"


def _count(text: str) -> int:
    """A number, "8", or numbers of several types, "a100:6,v100:2"."""
    counts = []
    for item in text.split(","):
        match = re.fullmatch(r"(?:[\w.-]+:)?([1-9]\d*)", item)
        if not match:
            raise ValueError("it is not NUMBER or TYPE:NUMBER")
        counts.append(int(match[1]))
    return sum(counts)


def _counts(nodes: int, text: str) -> list[int]:
    """The number of each node: "2(x3),1" is two on each of three nodes and one on the next."""
    counts = []
    for item in text.split(","):
        match = re.fullmatch(r"([1-9]\d*)(?:\(x([1-9]\d*)\))?", item)
        if not match:
            raise ValueError(f"{item!r} is not NUMBER or NUMBER(xNODES)")
        counts += [int(match[1])] * int(match[2] or 1)
    if len(counts) != nodes:
        raise ValueError(f"it is for {len(counts)} nodes, but SLURM_JOB_NODELIST names {nodes}")
    return counts


def _pbs(environment: Mapping[str, str], variable: str) -> Allocation:
    """PBS Professional's User's Guide, "The Job's Node File": a line for each MPI process (mpiprocs) of each chunk."""
    slots = _read(environment, variable, lambda path: read_hostfile(Path(path)))
    return Allocation(slots, f"PBS job {environment.get('PBS_JOBID', '?')}", "slots")


def _lsf(environment: Mapping[str, str], variable: str) -> Allocation:
    """Administering LSF, "How LSF runs parallel jobs": "host_nameA num_processors1 host_nameB num_processors2 ...".

    All hosts count. The first is where the job script runs; on some systems that is only a launch node, with one slot, but LSF
    does not say so.
    """
    slots = _read(environment, variable, _host_count_pairs)
    return Allocation(slots, f"LSF job {environment.get('LSB_JOBID', '?')}", "slots")


def _host_count_pairs(text: str) -> dict[str, int]:
    words = text.split()
    if len(words) % 2:
        raise ValueError("it is not HOST NUMBER HOST NUMBER ...")
    return sum_slots(map(":".join, zip(words[::2], words[1::2], strict=True)))


def _mpijob(environment: Mapping[str, str], variable: str) -> Allocation:
    """Kubeflow's mpi-operator, v2beta1: the launcher finds the workers' file by the variable of the job's mpiImplementation."""
    return Allocation(_read(environment, variable, lambda path: read_hostfile(Path(path))), "MPIJob", "slots")


SCHEDULERS: dict[str, Callable[[Mapping[str, str], str], Allocation]] = {
    "SLURM_JOB_NODELIST": _slurm,
    "PBS_NODEFILE": _pbs,
    "LSB_MCPU_HOSTS": _lsf,
    "OMPI_MCA_orte_default_hostfile": _mpijob,
    "I_MPI_HYDRA_HOST_FILE": _mpijob,
    "HYDRA_HOST_FILE": _mpijob,
}


def _given_hostfile(path: Path) -> dict[str, int]:
    try:
        return read_hostfile(path)
    except OSError as error:
        raise UsageError(f"--hostfile {path} cannot be read: {error.strerror}; give a file with a host on each line") from error
    except ValueError as error:
        raise UsageError(f"--hostfile {path}: {error}; a line is HOST slots=N, HOST:N or HOST") from error


def _read(environment: Mapping[str, str], variable: str, parse: Callable[[str], Value]) -> Value:
    value = environment.get(variable, "")
    try:
        return parse(value)
    except (OSError, ValueError) as error:
        raise EnvironmentNotReady(f"{variable}={value!r}: {error}; name the hosts with --hosts HOST:SLOTS,...") from error
