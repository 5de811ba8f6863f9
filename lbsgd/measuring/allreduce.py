"""How fast the ranks sum an array of each of many sizes, and whether the sum is right: nccl-tests' measure, for any transport.

Horovod asks all ranks what is ready about a thousand times per second even when nothing is, which slows down other uses of MPI;
so the other transport is measured before Horovod starts.
"""

import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lbsgd.backends.allreduce_contract import Transport
from lbsgd.errors import UsageError
from lbsgd.ranks.world import World

TRANSPORTS = ("mpi4py", "horovod")
"""In the order in which they are measured."""

EXACT_UP_TO = {"float16": 2**11, "float32": 2**24, "float64": 2**53, "int32": 2**31 - 1, "int64": 2**63 - 1}
"""The data types, and up to where they hold every integer."""

PERIODS = (31, 13, 7, 5, 3, 2, 1)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What to measure. begin, end: bytes of the smallest and the largest array; step: bytes from one to the next, or None when
    each is `factor` times the one before.

    Raises UsageError when there is nothing between begin and end.
    """

    begin: int
    end: int
    step: int | None
    factor: int
    iterations: int
    warm_up: int
    check: bool
    datatype: str

    def __post_init__(self) -> None:
        if self.begin > self.end:
            raise UsageError(f"--begin {self.begin} is more than --end {self.end} bytes; give a smaller --begin")
        if self.begin < self.item_bytes:
            raise UsageError(f"--begin {self.begin}: one {self.datatype} takes {self.item_bytes} bytes; begin there")

    @property
    def item_bytes(self) -> int:
        return np.dtype(self.datatype).itemsize

    def counts(self) -> list[int]:
        """Elements of each array, in the order measured: sizes are rounded down to whole elements."""
        sizes = [self.begin]
        while (size := sizes[-1] + self.step if self.step else sizes[-1] * self.factor) <= self.end:
            sizes.append(size)
        return list(dict.fromkeys(size // self.item_bytes for size in sizes))


class Mpi4py(Transport):
    """MPI's own allreduce on numpy arrays."""

    name = "mpi4py"
    in_place = True

    def __init__(self, world: World, datatype: str) -> None:
        if datatype == "float16":
            raise UsageError("MPI has no float16, so mpi4py cannot sum it; add --through horovod")
        self._comm = world.for_other_libraries()

    def start(self) -> None:
        """MPI was started with the world."""

    def collective(self, values: np.ndarray, in_place: bool) -> Callable[[], np.ndarray]:
        from mpi4py import MPI

        total = values.copy() if in_place else np.empty_like(values)
        source = MPI.IN_PLACE if in_place else values

        def run() -> np.ndarray:
            self._comm.Allreduce(source, total)
            return total

        return run

    def to_array(self, total: np.ndarray) -> np.ndarray:
        return total

    def environment(self) -> dict[str, Any]:
        return {"device": "cpu"}


def open_transports(world: World, names: list[str], framework: str, datatype: str) -> list[Transport]:
    """The named transports, not started yet, in the order in which they are to be measured.

    Raises UsageError for a transport that has not this data type, EnvironmentNotReady without Horovod or a GPU a rank.
    """
    wanted = [name for name in TRANSPORTS if name in names]
    return [Mpi4py(world, datatype) if name == "mpi4py" else _open_horovod(world, framework) for name in wanted]


def _open_horovod(world: World, framework: str) -> Transport:
    from lbsgd.backends import ReplicaSpec
    from lbsgd.launch.horovod.installed import require_horovod
    from lbsgd.policy.recipe import load_recipe

    require_horovod(framework)
    module = importlib.import_module(f"lbsgd.backends.{framework}.allreduce_transport")
    return module.HorovodAllreduce(ReplicaSpec(recipe=load_recipe("demo", []), classes=1, world=world))


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One size, one transport, in place or not. Each iteration counts with the slowest rank's time.

    seconds, p99_seconds: median and 99th percentile over iterations; mean_seconds: of the loop as a whole.
    wrong: elements that are not the sum, counted on all ranks; None when that was not checked.
    """

    through: str
    ranks: int
    count: int
    bytes: int
    in_place: bool
    seconds: float
    p99_seconds: float
    mean_seconds: float
    wrong: int | None

    @property
    def algbw(self) -> float:
        """Algorithm bandwidth in GB/s (10^9): size over time."""
        return self.bytes / self.seconds / 1e9

    @property
    def busbw(self) -> float:
        """Bus bandwidth in GB/s: what each rank must send at least, 2 (n - 1) / n of the size, over time; 0 for one rank."""
        return self.algbw * 2 * (self.ranks - 1) / self.ranks


def measure(world: World, transport: Transport, sweep: Sweep) -> Iterator[list[Measurement]]:
    """For each size the measurement out of place and, where the transport has it, in place. Collective."""
    transport.start()
    for count in sweep.counts():
        values = contribution(world.rank, world.size, count, sweep.datatype)
        yield [_measure(world, transport, sweep, values, in_place) for in_place in (False, True)[: 1 + transport.in_place]]


def _measure(world: World, transport: Transport, sweep: Sweep, values: np.ndarray, in_place: bool) -> Measurement:
    durations, whole = _time(world, transport.collective(values, in_place), sweep)
    wrong = None
    if sweep.check:
        found = transport.to_array(transport.collective(values, in_place)())
        wrong = sum(world.gather(count_wrong(found, world.size)))
    return Measurement(
        through=transport.name,
        ranks=world.size,
        count=values.size,
        bytes=values.nbytes,
        in_place=in_place,
        seconds=float(np.median(durations)),
        p99_seconds=float(np.percentile(durations, 99)),
        mean_seconds=whole / sweep.iterations,
        wrong=wrong,
    )


def _time(world: World, run: Callable[[], Any], sweep: Sweep) -> tuple[np.ndarray, float]:
    """Seconds of each iteration and of all of them, by the slowest rank. Collective."""
    for _ in range(sweep.warm_up):
        run()
    stamps = np.empty(sweep.iterations + 1)
    world.barrier()
    stamps[0] = time.perf_counter()
    for iteration in range(sweep.iterations):
        run()
        stamps[iteration + 1] = time.perf_counter()
    slowest = np.max(world.gather(np.diff(stamps)), axis=0)
    return slowest, world.max(stamps[-1] - stamps[0])


def contribution(rank: int, ranks: int, count: int, datatype: str) -> np.ndarray:
    """A rank's array of `count` elements: small integers that differ by rank and by position, whose sum is exact."""
    period = _period(ranks, datatype)
    return np.resize((np.arange(period) + rank % period + 1).astype(datatype), count)


def count_wrong(found: np.ndarray, ranks: int) -> int:
    """How many elements of `found` are not the sum of all ranks' contributions."""
    period = _period(ranks, found.dtype.name)
    rank_terms = sum(rank % period + 1 for rank in range(ranks))
    expected = np.resize((np.arange(period) * ranks + rank_terms).astype(found.dtype), found.size)
    return int(np.count_nonzero(found != expected))


def _period(ranks: int, datatype: str) -> int:
    """After how many elements the values repeat: no power of two, since those are where arrays are cut into pieces."""
    for period in PERIODS:
        if (2 * period - 1) * ranks <= EXACT_UP_TO[datatype]:
            return period
    raise UsageError(f"a sum over {ranks} ranks cannot be exact in {datatype}; use -d float32, or -c 0 to leave the check out")
