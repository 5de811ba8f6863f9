"""Samples of a source in order, each once, read by threads that run a little ahead.

A sample that cannot be read is an outcome like any other: one caller stops at it, another one counts it.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

from lbsgd.data.readers import READ_TIMEOUT, Readers
from lbsgd.data.source import Source, UnreadableSample

CHUNK = 4
"""Samples a thread reads at a time: handing over costs."""

AHEAD = 2
"""Chunks a thread that may be read and not yet taken: this bounds the memory."""

Result = TypeVar("Result")


def read_ahead(
    source: Source,
    samples: Sequence[int],
    read: Callable[[int], Result],
    *,
    threads: int,
    timeout: float = READ_TIMEOUT,
) -> Generator[tuple[int, Result | UnreadableSample], None, None]:
    """Each sample with what `read` returns for it, or with the UnreadableSample it raises.

    A read that takes longer than `timeout` seconds is such an outcome too. A generator that is closed before its end, as after
    Ctrl-C, ends its threads and does not wait for them: one of them may be stuck.
    """
    too_slow: dict[int, UnreadableSample] = {}

    def attempt(sample: int) -> Result | UnreadableSample:
        try:
            return too_slow[sample] if sample in too_slow else read(sample)
        except UnreadableSample as error:
            return error

    def blocked(sample: int, seconds: float) -> None:
        too_slow[sample] = UnreadableSample(source.name(sample), f"reading it has taken more than {seconds:g} s")

    readers = Readers(threads, attempt, blocked, timeout)
    pending: deque[tuple[Sequence[int], dict[int, Result | UnreadableSample], Future[None]]] = deque()
    try:
        for start in range(0, len(samples), CHUNK):
            chunk = samples[start : start + CHUNK]
            outcomes: dict[int, Result | UnreadableSample] = {}
            pending.append((chunk, outcomes, readers.submit(chunk, outcomes.__setitem__)))
            if len(pending) == threads * AHEAD:
                yield from _take(readers, *pending.popleft())
        while pending:
            yield from _take(readers, *pending.popleft())
    except BaseException:
        readers.close(longest=0.0)
        raise
    readers.close()


def _take(
    readers: Readers, chunk: Sequence[int], outcomes: dict[int, Result | UnreadableSample], done: Future[None]
) -> Iterator[tuple[int, Result | UnreadableSample]]:
    readers.wait(done)
    for position, sample in enumerate(chunk):
        yield sample, outcomes[position]
