"""What to try next, from where the time of a step went.

A part is worth a suggestion when it takes WORTH_TRYING of the step or more. Every suggestion carries the figures that led to
it, and names only what exists: commands of lbsgd and settings of Horovod and NCCL.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from lbsgd.measuring.step_parts import StepParts
from lbsgd.report.blocks import Advice, Suggestion
from lbsgd.report.text import milliseconds, number, percent, rate

WORTH_TRYING = 0.05


@dataclass(frozen=True)
class SlowestRank:
    """The rank whose own arithmetic takes longest, and what the median rank takes. Milliseconds a step."""

    rank: int
    host: str
    compute_ms: float
    median_ms: float


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """Where a step went. parts: in milliseconds. What was not measured is None.

    baseline_compute_ms: a worker's arithmetic at the baseline size. allreduce_ms: of all gradients, with nothing beside it.
    """

    who: str
    workers: int
    hosts: int
    efficiency: float | None
    against: str
    parts: StepParts
    batch_per_worker: int
    global_batch: int
    images_per_second: float
    data: str
    gradient_bytes: int | None = None
    allreduce_ms: float | None = None
    baseline_compute_ms: float | None = None
    slowest: SlowestRank | None = None

    @property
    def step_ms(self) -> float:
        return self.parts.whole

    @property
    def compute_growth_ms(self) -> float:
        """What a worker's own arithmetic takes longer than at the baseline size."""
        return self.parts.compute - self.baseline_compute_ms if self.baseline_compute_ms else 0.0

    def of_step(self, ms: float) -> str:
        return f"{milliseconds(ms)} of the {milliseconds(self.step_ms)} step ({percent(ms / self.step_ms)})"


def advise(breakdown: Breakdown) -> Advice:
    """The verdict and what to try, the largest loss first."""
    parts = breakdown.parts
    losses = {"communication": parts.communication, "waiting": parts.waiting or 0.0, "data": parts.data}
    losses |= {"other": parts.other, "compute": breakdown.compute_growth_ms}
    worth = [name for name in losses if losses[name] >= WORTH_TRYING * breakdown.step_ms]
    worth.sort(key=lambda name: losses[name], reverse=True)
    return Advice(_verdict(breakdown, worth, losses), tuple(SUGGESTIONS[name](breakdown) for name in worth))


def _verdict(breakdown: Breakdown, worth: list[str], losses: dict[str, float]) -> str:
    efficiency = "" if breakdown.efficiency is None else f" {percent(breakdown.efficiency)} efficient {breakdown.against}."
    if not worth:
        what = f"compute takes {breakdown.of_step(breakdown.parts.compute)}; no other part takes {100 * WORTH_TRYING:.0f} %"
        return f"{breakdown.who}:{efficiency} Nothing to try: {what}."
    lost = ", ".join(f"{NAMES[name]} {milliseconds(losses[name])}" for name in worth)
    return f"{breakdown.who}:{efficiency} Of a step of {milliseconds(breakdown.step_ms)}: {lost}."


NAMES = {
    "communication": "exposed communication",
    "waiting": "waiting for slower workers",
    "data": "waiting for images",
    "other": "the loop’s own work",
    "compute": "slower arithmetic",
}


def _communication(breakdown: Breakdown) -> Suggestion:
    exposed, alone = breakdown.parts.communication, breakdown.allreduce_ms
    because = [f"{breakdown.of_step(exposed)} is communication that the backward pass did not hide."]
    steps = []
    if alone and breakdown.gradient_bytes:
        because.append(_bandwidth(breakdown.workers, breakdown.gradient_bytes, alone))
    if alone and exposed > 1.2 * alone:
        because.append("More is exposed than the allreduce takes by itself: workers wait for one another or share cores.")
        steps.append(
            "Give each worker cores of its own: fewer workers per host, fewer threads (`OMP_NUM_THREADS`), no other jobs."
        )
    if breakdown.hosts > 1:
        steps += _network(breakdown)
    batch = breakdown.batch_per_worker
    steps += [
        f"A larger batch per worker, such as `--batch-per-gpu {2 * batch}`, exchanges the same gradients for more images. "
        f"The global batch grows to {2 * breakdown.global_batch:,}; the paper’s accuracy holds up to 8,192.",
        "`HOROVOD_AUTOTUNE=1` searches how gradients are best joined; keep what it finds with `HOROVOD_FUSION_THRESHOLD` and "
        "`HOROVOD_CYCLE_TIME`.",
    ]
    return Suggestion("Less exposed communication", " ".join(because), tuple(steps))


def _bandwidth(count: int, size: int, ms: float) -> str:
    bus = 2 * (count - 1) / count * size / ms / 1e6
    return (
        f"The allreduce of {number(size / 1e6)} MB alone takes {milliseconds(ms)}, "
        f"a bus bandwidth of {number(bus)} GB/s ({number(8 * bus)} Gbit/s)."
    )


def _network(breakdown: Breakdown) -> list[str]:
    steps = [
        "`lbsgd bench allreduce` shows what the network gives. Far below the line rate: use RDMA; `NCCL_DEBUG=INFO` prints "
        "NET/IB where it is used and NET/Socket where TCP is."
    ]
    if breakdown.workers > breakdown.hosts:
        steps.append("`HOROVOD_HIERARCHICAL_ALLREDUCE=1` reduces within each host first, so less crosses the network.")
    return steps


def _waiting(breakdown: Breakdown) -> Suggestion:
    because = f"A worker waits for slower ones for {breakdown.of_step(breakdown.parts.waiting or 0.0)}."
    where = "the slowest host"
    if slowest := breakdown.slowest:
        where = f"host {slowest.host}"
        because += (
            f" Rank {slowest.rank} on {where} computes for {milliseconds(slowest.compute_ms)}, "
            f"the median rank for {milliseconds(slowest.median_ms)}."
        )
    steps = (
        f"Look at {where}: other jobs, clocks lowered by heat or a power limit, fewer cores or slower memory than its peers.",
        "`lbsgd doctor` compares the hosts: GPUs and drivers, cores and control groups, network, clocks.",
        "Measure again without it. When another rank takes its place, workers share something; else it is that host.",
    )
    return Suggestion("Even out the workers", because, steps)


def _data(breakdown: Breakdown) -> Suggestion:
    feed = rate(breakdown.images_per_second / breakdown.hosts).replace(",", "")
    steps = (
        f"`lbsgd bench input --data {shlex.quote(breakdown.data)} --feed {feed}` says whether a host’s cores can make the "
        "images, and which stage takes the time.",
        "More `--data-threads` where cores are idle; without it a rank takes its share of them.",
        "`lbsgd data pack` puts many small files into few large ones, where the disk or network is what is slow.",
    )
    return Suggestion("Faster input", f"Workers wait for images for {breakdown.of_step(breakdown.parts.data)}.", steps)


def _other(breakdown: Breakdown) -> Suggestion:
    because = f"{breakdown.of_step(breakdown.parts.other)} is neither arithmetic nor communication nor waiting for images."
    step = (
        "Records, checkpoints and meetings of the ranks: is the runs folder on a slow disk, or rank 0’s core taken by others?"
    )
    return Suggestion("A lighter loop", because, (step,))


def _compute(breakdown: Breakdown) -> Suggestion:
    because = (
        f"A worker’s own arithmetic takes {milliseconds(breakdown.parts.compute)} a step, "
        f"{milliseconds(breakdown.baseline_compute_ms)} at the baseline size."
    )
    steps = (
        "Workers of a host share cores, memory bandwidth or power: fewer of them a host, or a core of its own for each thread.",
        "Measure fewer workers per host: when the arithmetic is fast again, that is the cause.",
    )
    return Suggestion("Undisturbed arithmetic", because, steps)


SUGGESTIONS: dict[str, Callable[[Breakdown], Suggestion]] = {
    "communication": _communication,
    "waiting": _waiting,
    "data": _data,
    "other": _other,
    "compute": _compute,
}
