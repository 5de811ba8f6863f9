"""How many ranks the hosts of a job can take."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from lbsgd.errors import UsageError


def local_slots() -> tuple[int, str]:
    """Ranks this host can take, and of what: one a GPU, or one a CPU core where there is none."""
    gpus = [path for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    if gpus:
        return len(gpus), "GPUs"
    return len(os.sched_getaffinity(0)), "CPU cores"


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


def parse_hosts(hosts: str) -> dict[str, int]:
    """mpirun's host list "a:4,b:4" as slots by host; a host without a number has one slot.

    Raises UsageError for anything else.
    """
    try:
        return sum_slots(hosts.split(","))
    except ValueError as error:
        raise UsageError(f"--hosts {hosts!r}: {error}; give e.g. node1:8,node2:8") from error
