"""Threads that prepare images, and a watch over them: a read that blocks is reported, with what it blocks on.

Threads and never processes: forking after MPI has started is unsafe, and decoding and resizing release the interpreter's
lock. A thread stuck in the kernel cannot be ended, only left behind; so they are daemons.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

READ_TIMEOUT = 120.0
"""Seconds that one image may take: long enough for a file server that restarts."""

LONGEST_POLL = 1.0

LONGEST_CLOSE = 3.0
"""Seconds: a run that was told to stop must not wait for a file server."""


@dataclass(frozen=True)
class _Job:
    """Items for one thread. keep(position, result) is called for each as it is done."""

    items: Sequence[Any]
    keep: Callable[[int, Any], None]
    done: Future = field(default_factory=Future)


class _Reader(threading.Thread):
    """item, since: what it reads and from when. `abandoned` changes only under `lock`."""

    def __init__(self, work: Callable[["_Reader"], None], number: int) -> None:
        super().__init__(name=f"lbsgd-data-{number}", daemon=True)
        self.job: _Job | None = None
        self.item: Any = None
        self.since = float("inf")
        self.abandoned = False
        self.lock = threading.Lock()
        self._work = work

    def run(self) -> None:
        self._work(self)


class Readers:
    """`count` threads that `read` items.

    blocked(item, seconds) is called when one takes longer than `timeout` seconds. It raises what `wait` shall raise, or
    returns: then the item is read again by another thread, and must be read differently.
    """

    def __init__(
        self,
        count: int,
        read: Callable[[Any], Any],
        blocked: Callable[[Any, float], None],
        timeout: float = READ_TIMEOUT,
    ) -> None:
        self._read, self._blocked, self._timeout = read, blocked, timeout
        self._poll = min(LONGEST_POLL, timeout / 4)
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        self._readers: list[_Reader] = []
        for number in range(count):
            self._start(number)

    def submit(self, items: Sequence[Any], keep: Callable[[int, Any], None]) -> Future[None]:
        """Read items one after the other in one thread; keep(position, result) is called in it for each.

        What `read` raises ends the work and is raised by `wait`.
        """
        job = _Job(items, keep)
        self._queue.put(job)
        return job.done

    def wait(self, done: Future[None]) -> None:
        """Until the work is done. Raises what it raised, or what `blocked` raises for any thread."""
        while True:
            try:
                return done.result(self._poll)
            except TimeoutError:
                self._watch()

    def close(self, longest: float = LONGEST_CLOSE) -> None:
        """End the threads after the item each is at; after `longest` seconds, those that are not done are left behind."""
        self._closed = True
        for _ in self._readers:
            self._queue.put(None)
        deadline = time.monotonic() + longest
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))

    def _start(self, number: int) -> None:
        reader = _Reader(self._work, number)
        self._readers.append(reader)
        reader.start()

    def _work(self, reader: _Reader) -> None:
        while (job := self._queue.get()) is not None:
            reader.job = job
            error = self._carry_out(reader, job)
            with reader.lock:
                if reader.abandoned:
                    return
                if error is None:
                    job.done.set_result(None)
                else:
                    job.done.set_exception(error)

    def _carry_out(self, reader: _Reader, job: _Job) -> BaseException | None:
        try:
            for position, item in enumerate(job.items):
                if self._closed:
                    raise CancelledError
                reader.item, reader.since = item, time.monotonic()
                result = self._read(item)
                with reader.lock:
                    reader.since = float("inf")
                    if reader.abandoned:  # another thread has this job now
                        return None
                    job.keep(position, result)
        except BaseException as error:
            return error
        finally:
            reader.since = float("inf")
        return None

    def _is_stuck(self, reader: _Reader) -> bool:
        return time.monotonic() - reader.since > self._timeout

    def _watch(self) -> None:
        for number, reader in enumerate(self._readers):
            with reader.lock:
                if not self._is_stuck(reader):
                    continue
                reader.abandoned = True
            self._blocked(reader.item, self._timeout)
            del self._readers[number]
            self._start(number)
            self._queue.put(reader.job)
            return
