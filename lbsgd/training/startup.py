"""Starting a run: how long each part takes, and a word to the user when nothing else is said for a while."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from lbsgd.measuring.steps import Step

SILENCE = 2.0
"""Seconds after which a part that still takes says what it is."""

IMPORTS, MPI, DATA, BACKEND, BROADCAST, FIRST_STEP = PARTS = ("imports", "mpi", "data", "backend", "broadcast", "first_step")
"""In the order in which they happen."""


class Startup:
    """The parts of a start, in seconds by name, on one rank. say: tells the user a line; on rank 0 alone."""

    def __init__(self) -> None:
        self.say: Callable[[str], None] = silent
        self._began = psutil.Process().create_time()
        self._parts: dict[str, float] = {}

    @contextmanager
    def part(self, name: str, what: str) -> Iterator[None]:
        """Time what is done inside. what: said of it when it takes longer than SILENCE."""
        start = time.monotonic()
        reminder = threading.Timer(SILENCE, lambda: self.say(f"{what} ..."))
        reminder.daemon = True
        reminder.start()
        try:
            yield
        finally:
            reminder.cancel()
            self._parts[name] = self._parts.get(name, 0.0) + time.monotonic() - start

    def until_first(self, steps: Iterator[Step]) -> Iterator[Step]:
        """The steps, of which the run's first is timed."""
        if FIRST_STEP not in self._parts:
            with self.part(FIRST_STEP, "taking the first step"):
                first = next(steps, None)
            if first:
                yield first
        yield from steps

    def imported(self) -> None:
        """All modules that the command itself needs are there; the interpreter's own start is counted with them."""
        self._parts[IMPORTS] = time.time() - self._began

    def done(self) -> dict[str, float]:
        """The parts, and the whole from the start of the process to now as "total"."""
        return {**self._parts, "total": time.time() - self._began}


def silent(_: str) -> None:
    """What other ranks say."""
