"""Profiles the iterations of a window on rank 0 and leaves a trace and a summary in the run's folder."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from lbsgd.backends.contract import Backend
from lbsgd.measuring.steps import Step
from lbsgd.profiling.summary import summarise, summary_lines
from lbsgd.profiling.trace import LBSGD, Event, read_horovod_timeline, span, write_trace
from lbsgd.profiling.window import Window
from lbsgd.record.atomic import write_json

SETTLED_SECONDS = 0.3
"""Horovod's timeline is written by a thread of its own: it is complete when it has not grown for so long."""


class Passing:
    """Lets the steps of a run pass that is not profiled."""

    def watch(self, steps: Iterator[Step], first: int) -> Iterator[Step]:
        return steps

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Recorder(Passing):
    """Watches the steps of a run. folder: where its files go. say: tells the user a line. keep: puts a key into run.json."""

    def __init__(
        self, window: Window, backend: Backend, folder: Path, say: Callable[[str], None], keep: Callable[..., None]
    ) -> None:
        self.window, self.folder = window, folder
        self._profiler, self._say, self._keep = backend.profiler(), say, keep
        self._ahead = 1 if backend.asynchronous else 0
        self._timeline = folder / "horovod.json" if backend.spec.world.size > 1 else None
        self._spans: list[Event] = []
        self._running = False

    def watch(self, steps: Iterator[Step], first: int) -> Iterator[Step]:
        """The same steps, of which `first` is the first iteration, profiled where they are in the window."""
        self._start_at(first)
        for step in steps:
            if self._running:
                self._add(step)
            yield step
            self._start_at(step.iteration + 1 + self._ahead)

    def __exit__(self, *_: object) -> None:
        """End a profile that the run's end cut short; nothing is left of it."""
        if self._running:
            self._running = False
            self._profiler.stop()
            self._say(f"no profile: the run ended within iterations {self.window}")

    def _start_at(self, iteration: int) -> None:
        if not self._running and iteration == self.window.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._running = True
            self._profiler.start(self.folder, self._timeline)

    def _add(self, step: Step) -> None:
        """Note a step that has just ended, and end the profile after the last one."""
        if step.iteration < self.window.first:
            return
        end = time.time() * 1e6
        start = end - (step.seconds - step.other_seconds) * 1e6
        self._spans.append(span("step", start, end, LBSGD, "loop", "step") | {"args": {"iteration": step.iteration}})
        self._spans.append(span("data wait", start, start + step.data_seconds * 1e6, LBSGD, "loop", "data"))
        if step.iteration == self.window.stop - 1:
            self._finish()

    def _finish(self) -> None:
        self._running = False
        events = self._spans + self._profiler.stop() + self._horovod()
        write_trace(self.folder / "trace.json.gz", events)
        summary = summarise(events)
        write_json(self.folder / "summary.json", summary.as_json())
        described: dict[str, Any] = {"first": self.window.first, "stop": self.window.stop, "trace": "profile/trace.json.gz"}
        self._keep(profile=described)
        for line in [*summary_lines(summary), f"trace: {self.folder / 'trace.json.gz'}; open it at https://ui.perfetto.dev"]:
            self._say(line)

    def _horovod(self) -> list[Event]:
        """The spans of Horovod's timeline, once its thread has written them."""
        if self._timeline is None:
            return []
        size, until = -1, time.monotonic() + 5
        while self._timeline.exists() and self._timeline.stat().st_size != size and time.monotonic() < until:
            size = self._timeline.stat().st_size
            time.sleep(SETTLED_SECONDS)
        spans = read_horovod_timeline(self._timeline)
        self._timeline.unlink(missing_ok=True)
        return spans


def open_recorder(
    window: Window | None, backend: Backend, folder: Path | None, say: Callable[[str], None], keep: Callable[..., None]
) -> Passing:
    """What watches the steps of this rank. folder: None where no profile is made."""
    return Recorder(window, backend, folder, say, keep) if window and folder else Passing()
