"""Taking steps and timing them."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lbsgd.backends.contract import Backend
from lbsgd.data.batch import Batch


@dataclass(frozen=True)
class Step:
    """A finished step. Times in seconds: all of it, the wait for its images, the caller's own work since the last step."""

    iteration: int
    learning_rate: float
    loss: float
    seconds: float
    data_seconds: float
    other_seconds: float

    @property
    def busy_seconds(self) -> float:
        """The update itself: arithmetic and communication."""
        return self.seconds - self.data_seconds - self.other_seconds


def take_steps(
    backend: Backend,
    batches: Iterator[Batch],
    learning_rate: Callable[[int], float],
    iterations: Iterable[int],
    *,
    communicate: bool = True,
) -> Iterator[Step]:
    """Take the steps of `iterations` and yield each when the device has finished it; the last one before returning.

    Where the device runs behind the host, a step's loss is read after the next one was handed over: the device never waits
    for the host, and the time between two yields is still one step of the device.
    """
    behind = 1 if backend.asynchronous else 0
    pending: deque = deque()
    lap = time.perf_counter()
    data_seconds = other_seconds = 0.0

    def finish() -> Step:
        nonlocal lap, data_seconds, other_seconds
        iteration, rate, loss = pending.popleft()
        value = backend.loss_value(loss)
        now = time.perf_counter()
        step = Step(iteration, rate, value, now - lap, data_seconds, other_seconds)
        lap, data_seconds, other_seconds = now, 0.0, 0.0
        return step

    for iteration in iterations:
        asked = time.perf_counter()
        batch = next(batches)
        data_seconds += time.perf_counter() - asked
        rate = learning_rate(iteration)
        loss = backend.train_step(batch.images, batch.labels, rate, communicate)
        pending.append((iteration, rate, loss))
        if len(pending) > behind:
            yield finish()
            other_seconds += time.perf_counter() - lap
    while pending:
        yield finish()
