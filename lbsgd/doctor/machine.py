"""A host's GPUs, cores, shared memory and limits, against the ranks that it is to carry."""

import ctypes
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from lbsgd.doctor.finding import Finding, ok, problem, skipped, told, warning
from lbsgd.doctor.request import Request
from lbsgd.launch.hosts import local_slots

MIB = 1 << 20
SHM_PER_RANK = 8 * MIB
"""Open MPI takes btl_vader_segment_size, 4 MiB, for each rank; as much again is left to others."""
SHM_WITH_GPUS = 1 << 30
"""NCCL's documentation, "Troubleshooting", "Shared memory": containers need --shm-size=1g."""
SMI_FIELDS = "name,driver_version,memory.total"
SMI_SECONDS = 20


def look() -> dict[str, Any]:
    """Devices and limits as a rank would find them."""
    count, of = local_slots()
    gpus = count if of == "GPUs" else 0
    return {
        "gpus": gpus,
        "nvidia_smi": _ask_driver() if gpus else None,
        "nccl": nccl_version() if gpus else None,
        "shm_free": shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else None,
        "open_files": _limit(resource.RLIMIT_NOFILE),
        "locked_bytes": _limit(resource.RLIMIT_MEMLOCK),
        "rdma": sorted(path.name for path in Path("/sys/class/infiniband").glob("*")),
        "cores": sorted(os.sched_getaffinity(0)),
        "cpu_quota": cpu_quota(Path("/proc/self/cgroup").read_text(), Path("/sys/fs/cgroup")),
    }


def _limit(which: int) -> int | None:
    """A soft limit; None when there is none."""
    soft, _ = resource.getrlimit(which)
    return None if soft == resource.RLIM_INFINITY else soft


def _ask_driver() -> dict[str, Any]:
    command = ["nvidia-smi", f"--query-gpu={SMI_FIELDS}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SMI_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode:
        return {"error": (lines or [done.stderr.strip()])[0]}
    return {"gpus": lines}


def nccl_version() -> str | None:
    """The NCCL that pip installed, else the one that the loader finds; None without one."""
    for distribution in metadata.distributions():
        if distribution.name.startswith("nvidia-nccl-"):
            return distribution.version
    version = ctypes.c_int()
    try:
        ctypes.CDLL("libnccl.so.2").ncclGetVersion(ctypes.byref(version))
    except OSError:
        return None
    major, rest = divmod(version.value, 10_000)  # nccl.h, NCCL_VERSION since 2.9
    return f"{major}.{rest // 100}.{rest % 100}"


def cpu_quota(own_groups: str, mounted: Path) -> float | None:
    """Cores' worth of time that control groups allow, None without a limit. own_groups: /proc/self/cgroup, see cgroups(7).

    A limit of a group holds for all groups within, and in a container the own group may be what is mounted.
    """
    quotas: list[float] = []
    for line in own_groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            quotas += _quotas(mounted, path, "cpu.max")
        elif "cpu" in controllers.split(","):
            quotas += _quotas(mounted / "cpu", path, "cpu.cfs_quota_us")
    return min(quotas, default=None)


def _quotas(mounted: Path, path: str, name: str) -> Iterator[float]:
    group = mounted / path.lstrip("/")
    for folder in (group, *group.parents):
        file = folder / name
        if folder.is_relative_to(mounted) and file.exists():
            quota, *period = file.read_text().split()
            if quota not in ("max", "-1"):
                yield int(quota) / int((period or [(folder / "cpu.cfs_period_us").read_text()])[0])


def judge(facts: dict[str, dict], request: Request) -> Iterator[Finding]:
    """Only hosts that carry ranks count."""
    carrying = {host: fact for host, fact in facts.items() if request.ranks.get(host)}
    if not carrying:
        return
    yield from judge_gpus(carrying, request.ranks)
    yield from judge_shared_memory(carrying, request.ranks)
    yield from judge_limits(carrying, request)
    yield from judge_cores(carrying, request.ranks)


def judge_gpus(facts: dict[str, dict], ranks: dict[str, int]) -> Iterator[Finding]:
    """One GPU a rank, one driver, NCCL."""
    if not any(fact["gpus"] for fact in facts.values()):
        yield skipped("gpus", "no GPU: ranks compute on the CPU")
        yield skipped("nccl", "no GPU")
        return
    found = [finding for host, fact in facts.items() for finding in _judge_host_gpus(host, fact, ranks[host])]
    kinds = {host: _kind(fact) for host, fact in facts.items()}
    if not found and len(set(kinds.values())) > 1:
        found.append(
            warning(
                "gpus",
                None,
                told(kinds),
                why="all ranks wait for the slowest GPU at every step",
                advice="use hosts of one kind, with one driver",
            )
        )
    yield from found or [ok("gpus", told(kinds))]
    yield from _judge_nccl(facts)


def _judge_host_gpus(host: str, fact: dict, ranks: int) -> Iterator[Finding]:
    if fact["gpus"] < ranks:
        yield problem(
            "gpus",
            host,
            f"{fact['gpus']} GPUs for {ranks} ranks",
            why="a rank has a GPU of its own",
            advice=f"give {host} at most {fact['gpus']} slots, or look with nvidia-smi why GPUs are missing",
        )
    elif "error" in fact["nvidia_smi"]:
        yield problem(
            "gpus",
            host,
            f"nvidia-smi: {fact['nvidia_smi']['error']}",
            why="the driver does not answer, so no rank can use its GPU",
            advice="load or update the driver, or restart the host after its update",
        )


def _judge_nccl(facts: dict[str, dict]) -> Iterator[Finding]:
    versions = {host: fact["nccl"] for host, fact in facts.items()}
    if len(set(versions.values())) == 1 and None not in versions.values():
        yield ok("nccl", told(versions))
        return
    missing = [host for host, version in versions.items() if version is None]
    yield problem(
        "nccl",
        missing[0] if len(missing) == 1 else None,
        f"NCCL is {told({host: version or 'missing' for host, version in versions.items()})}",
        why="gradients go from GPU to GPU through it, and different versions do not speak to each other",
        advice="install the same NCCL on all hosts (pip's GPU builds of the frameworks bring it)",
    )


def _kind(fact: dict) -> str:
    lines = (fact["nvidia_smi"] or {}).get("gpus", [])
    names = ", ".join(dict.fromkeys(lines))
    return f"{fact['gpus']} x {names}" if lines else f"{fact['gpus']} GPUs"


def judge_shared_memory(facts: dict[str, dict], ranks: dict[str, int]) -> Iterator[Finding]:
    """/dev/shm, through which ranks of one host talk."""
    found = []
    for host, fact in facts.items():
        free = fact["shm_free"] or 0
        needed = ranks[host] * SHM_PER_RANK
        if free < max(needed, SHM_WITH_GPUS if fact["gpus"] else 0):
            found.append(
                (problem if free < needed else warning)(
                    "shared memory",
                    host,
                    f"/dev/shm has {free / MIB:,.0f} MiB free for {ranks[host]} ranks",
                    why="ranks of a host talk through it; when it is full they crash with a bus error or NCCL fails",
                    advice="remove what ended jobs left there; give containers --shm-size=1g, pods an emptyDir in memory",
                )
            )
    least = min(fact["shm_free"] or 0 for fact in facts.values())
    yield from found or [ok("shared memory", f"/dev/shm has {least / MIB:,.0f} MiB free or more")]


def judge_limits(facts: dict[str, dict], request: Request) -> Iterator[Finding]:
    """Open files for the connections, and locked memory where there is RDMA."""
    found = []
    needed = 256 + 4 * max(request.ranks.values()) + 2 * request.np
    for host, fact in facts.items():
        if fact["open_files"] is not None and fact["open_files"] < needed:
            found.append(
                problem(
                    "limits",
                    host,
                    f"at most {fact['open_files']} open files; {request.np} ranks want about {needed}",
                    why="every rank has connections to many others: one too many ends the job",
                    advice=f"raise nofile in /etc/security/limits.conf on {host}, or --ulimit nofile=65536 for a container",
                )
            )
        if fact["rdma"] and fact["locked_bytes"] is not None:
            found.append(
                problem(
                    "limits",
                    host,
                    f"at most {fact['locked_bytes'] / MIB:,.1f} MiB of locked memory, but there is RDMA ({fact['rdma'][0]})",
                    why="RDMA locks the memory that it sends from: connections fail, or fall back to slow ones",
                    advice=f"set memlock unlimited in /etc/security/limits.conf on {host}, or --ulimit memlock=-1",
                )
            )
    yield from found or [ok("limits", f"open files {told({host: fact['open_files'] for host, fact in facts.items()})}")]


def judge_cores(facts: dict[str, dict], ranks: dict[str, int]) -> Iterator[Finding]:
    """At least a core for each rank."""
    cores = {host: len(fact["cores"]) for host, fact in facts.items()}
    usable = {host: min(count, facts[host]["cpu_quota"] or count) for host, count in cores.items()}
    short = {host: count for host, count in usable.items() if count < ranks[host]}
    for host, count in short.items():
        limited = " by its control group" if count < cores[host] else ""
        yield warning(
            "cores",
            host,
            f"{count:g} cores{limited} for {ranks[host]} ranks",
            why="ranks take turns: they are slow, and their times are no scaling figures",
            advice="start fewer ranks there, or ask for more CPUs (Slurm --cpus-per-task, Kubernetes resources, docker --cpus)",
        )
    if not short:
        yield ok("cores", told({host: f"{count:g} for {ranks[host]} ranks" for host, count in usable.items()}))
