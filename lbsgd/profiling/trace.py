"""Traces in Chrome's format, which Perfetto opens, on one time axis: microseconds since 1970.

A framework's profiler, Horovod's timeline and lbsgd's own spans each have a clock of their own; all three say when it was set.
"""

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Event = dict[str, Any]
"""Of Chrome's format: name, ph, ts and dur (microseconds), pid, tid, cat, args."""

LBSGD, HOROVOD = "lbsgd", "horovod"
"""Process names of the spans that are not the framework's."""


def span(name: str, start: float, end: float, pid: str | int, tid: str | int, category: str) -> Event:
    """A complete event; times in microseconds since 1970."""
    return {"name": name, "ph": "X", "ts": start, "dur": end - start, "pid": pid, "tid": tid, "cat": category}


def read_horovod_timeline(path: Path) -> list[Event]:
    """The spans of a timeline that Horovod wrote; its file may end in the middle.

    Horovod calls each tensor a process, and nests what happens to it.
    """
    if not path.exists():
        return []
    offset, found = 0.0, []
    tensors: dict[int, str] = {}
    open_spans: dict[int, list[tuple[str, float]]] = {}
    for event in whole_events(path.read_text(errors="replace")):
        arguments = event.get("args", {})
        if "start_time_since_epoch_in_micros" in arguments:
            offset = float(arguments["start_time_since_epoch_in_micros"])
        elif event.get("name") == "process_name":
            tensors[event["pid"]] = arguments["name"]
        elif event.get("ph") == "B":
            open_spans.setdefault(event["pid"], []).append((event["name"], event["ts"]))
        elif event.get("ph") == "E" and open_spans.get(event["pid"]):
            name, start = open_spans[event["pid"]].pop()
            tensor = tensors.get(event["pid"], str(event["pid"]))
            found.append(span(name, offset + start, offset + event["ts"], HOROVOD, tensor, "communication"))
        elif event.get("ph") == "X":
            tensor = tensors.get(event["pid"], str(event["pid"]))
            start = offset + event["ts"]
            found.append(span(event["name"], start, start + event["dur"], HOROVOD, tensor, "communication"))
    return found


def whole_events(text: str) -> Iterator[Event]:
    """The events of a JSON array up to where the text breaks off."""
    decoder, position = json.JSONDecoder(), text.find("{")
    while position >= 0:
        try:
            event, end = decoder.raw_decode(text, position)
        except ValueError:
            return
        yield event
        position = text.find("{", end)


def write_trace(path: Path, events: Iterable[Event]) -> None:
    """Write events as a trace file, compressed."""
    with gzip.open(path, "wt") as file:
        json.dump({"displayTimeUnit": "ms", "traceEvents": list(events)}, file)
