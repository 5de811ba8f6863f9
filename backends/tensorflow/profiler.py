"""TensorFlow's profiler as a backend's Profiler."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import horovod.tensorflow as hvd
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from lbsgd.backends.contract import Profiler

CALLS = ("PartitionedCall", "StatefulPartitionedCall", "While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase")
"""Operations that run a graph of their own."""


class TensorFlowProfiler(Profiler):
    """Operations on the CPU, and kernels where there is a GPU, out of the XSpace that TensorFlow writes."""

    def start(self, folder: Path, timeline: Path | None) -> None:
        self._folder, self._timeline = folder / "tensorflow", timeline
        tf.profiler.experimental.start(str(self._folder))
        if timeline:
            hvd.start_timeline(str(timeline))

    def stop(self) -> list[dict[str, Any]]:
        if self._timeline:
            hvd.stop_timeline()
        tf.profiler.experimental.stop()
        space = xplane_pb2.XSpace()
        for file in self._folder.rglob("*.xplane.pb"):
            space.ParseFromString(file.read_bytes())
        shutil.rmtree(self._folder)
        began = start_time(space)
        return [event for plane in space.planes for event in events_of(plane, began)]


def start_time(space: xplane_pb2.XSpace) -> float:
    """When the profile began, in microseconds since 1970; the times in it count from there."""
    for plane in space.planes:
        for stat in plane.stats:
            if plane.stat_metadata[stat.metadata_id].name == "profile_start_time":
                return (stat.uint64_value or stat.int64_value) / 1e3
    return 0.0


def events_of(plane: xplane_pb2.XPlane, began: float) -> Iterator[dict[str, Any]]:
    """A plane's events in Chrome's format. A line counts nanoseconds from the beginning, its events picoseconds from there."""
    on_gpu = plane.name.startswith("/device:GPU")
    for line in plane.lines:
        for event in line.events:
            name = plane.event_metadata[event.metadata_id].name
            category = "kernel" if on_gpu else "cpu_op" if is_operation(name) else "host"
            start = began + line.timestamp_ns / 1e3 + event.offset_ps / 1e6
            place = {"pid": plane.name, "tid": line.name or str(line.id)}
            yield {"name": short(name), "ph": "X", "ts": start, "dur": event.duration_ps / 1e6, "cat": category, **place}


def is_operation(name: str) -> bool:
    """Whether an event is one operation that computes: "path/name:Type".

    Not one that waits for Horovod, nor one that calls a graph and lasts as long as everything in it: a call of a function, or
    an eager operation, which TensorFlow writes as "name: Type".
    """
    kind = name.partition("#")[0].rpartition(":")[2]
    return ":" in name and "::" not in name and not kind.startswith((" ", "Horovod", *CALLS))


def short(name: str) -> str:
    """An operation by its type alone, as PyTorch names them; anything else as it is."""
    return name.partition("#")[0].rpartition(":")[2] if is_operation(name) else name
