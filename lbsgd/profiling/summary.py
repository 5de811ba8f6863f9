"""What a profile says in one screen: where a step's time goes, and which operations take it."""

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from lbsgd.profiling.intervals import Interval, clip, length, minus, self_times, union
from lbsgd.profiling.trace import LBSGD, Event

ALLREDUCE = "ALLREDUCE"
"""Horovod's name of the whole of an allreduce, once all ranks are ready for it."""

MOST_OPERATIONS = 12


@dataclass(frozen=True)
class Operation:
    """An operation's own time, without what it calls, in milliseconds of a step, and as a share of it."""

    name: str
    step_ms: float
    share: float


@dataclass(frozen=True)
class Summary:
    """Milliseconds of a step, means over the window. communication: all allreduces; exposed: while nothing was computed.

    device: "cuda" where the operations are kernels of a GPU, else "cpu".
    """

    iterations: int
    device: str
    step_ms: float
    data_ms: float
    communication_ms: float
    exposed_ms: float
    operations: tuple[Operation, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def summarise(events: list[Event]) -> Summary:
    """The summary of one rank's events, which hold lbsgd's spans of at least one step."""
    steps = spans_of(events, pid=LBSGD, name="step")
    window = (min(start for start, _ in steps), max(end for _, end in steps))
    count = len(steps)
    device = "cuda" if any(event.get("cat") == "kernel" for event in events) else "cpu"
    work = [event for event in events if event.get("cat") == ("kernel" if device == "cuda" else "cpu_op")]
    computing = union(clip(((event["ts"], event["ts"] + event["dur"]) for event in work), window))
    reducing = union(clip(spans_of(events, category="communication", name=ALLREDUCE), window))
    per_step = 1000 * count
    step_ms = length(union(steps)) / per_step
    return Summary(
        iterations=count,
        device=device,
        step_ms=step_ms,
        data_ms=length(spans_of(events, pid=LBSGD, name="data wait")) / per_step,
        communication_ms=length(reducing) / per_step,
        exposed_ms=length(minus(reducing, computing)) / per_step,
        operations=tuple(top_operations(work, window, per_step, step_ms)),
    )


def spans_of(events: list[Event], *, name: str, pid: str | None = None, category: str | None = None) -> list[Interval]:
    """The times of the spans of a name, in microseconds."""
    return [
        (event["ts"], event["ts"] + event["dur"])
        for event in events
        if event["name"] == name and pid in (None, event["pid"]) and category in (None, event.get("cat"))
    ]


def top_operations(work: list[Event], window: Interval, per_step: float, step_ms: float) -> list[Operation]:
    """The operations with the most time of their own. An operation that calls others lends them its time."""
    threads = defaultdict(list)
    for event in work:
        for start, end in clip([(event["ts"], event["ts"] + event["dur"])], window):
            threads[event["pid"], event["tid"]].append((event["name"], start, end))
    times: defaultdict[str, float] = defaultdict(float)
    for spans in threads.values():
        for name, time in self_times(spans).items():
            times[name] += time
    longest = sorted(times.items(), key=lambda one: one[1], reverse=True)[:MOST_OPERATIONS]
    return [Operation(name, time / per_step, time / per_step / step_ms) for name, time in longest]


def summary_lines(summary: Summary) -> list[str]:
    """The summary for a reader."""

    def line(name: str, milliseconds: float) -> str:
        return f"  {milliseconds:10.2f} ms  {100 * milliseconds / summary.step_ms:5.1f} %  {name}"

    where = "on the GPU" if summary.device == "cuda" else "on the CPU"
    return [
        f"profile of {summary.iterations} iterations on rank 0, means per step:",
        line("step", summary.step_ms),
        line("waiting for data", summary.data_ms),
        line("allreduce", summary.communication_ms),
        line("allreduce while nothing was computed (exposed)", summary.exposed_ms),
        f"operations {where} by time of their own:",
        *(line(operation.name, operation.step_ms) for operation in summary.operations),
    ]
