"""Taking steps and timing them."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lbsgd.backends.contract import Backend
from lbsgd.backends.phases import PhaseClock, Phases
from lbsgd.data.batch import Batch


@dataclass(frozen=True)
class Step:
    """A finished step. Times in seconds: all of it, the wait for its images, the caller's own work since the last step.

    phases: of a measured step; None of an ordinary one.
    """

    iteration: int
    learning_rate: float
    loss: float
    seconds: float
    data_seconds: float
    other_seconds: float
    phases: Phases | None = None

    @property
    def busy_seconds(self) -> float:
        """The update itself: arithmetic and communication."""
        return self.seconds - self.data_seconds - self.other_seconds


def none_measured(_: int) -> bool:
    """Every step is an ordinary one."""
    return False


def take_steps(
    backend: Backend,
    batches: Iterator[Batch],
    learning_rate: Callable[[int], float],
    iterations: Iterable[int],
    is_measured: Callable[[int], bool] = none_measured,
) -> Iterator[Step]:
    """Take the steps of `iterations` and yield each when the device has finished it; the last one before returning.

    is_measured: whether an iteration is taken as a measured step; the same on all ranks.
    Where the device runs behind the host, a step's loss is read after the next one was handed over: the device never waits
    for the host, and the time between two yields is still one step of the device. Only a measured step begins with a device
    that has nothing to do.
    """
    behind = 1 if backend.asynchronous else 0
    pending: deque = deque()
    lap = time.perf_counter()
    data_seconds = other_seconds = 0.0

    def finish() -> Step:
        nonlocal lap, data_seconds, other_seconds
        iteration, rate, loss, clock = pending.popleft()
        value = backend.loss_value(loss)
        now = time.perf_counter()
        step = Step(iteration, rate, value, now - lap, data_seconds, other_seconds, clock and clock.phases)
        lap, data_seconds, other_seconds = now, 0.0, 0.0
        return step

    for iteration in iterations:
        measured = is_measured(iteration)
        while measured and pending:
            yield finish()
            other_seconds += time.perf_counter() - lap
        asked = time.perf_counter()
        batch = next(batches)
        data_seconds += time.perf_counter() - asked
        rate = learning_rate(iteration)
        clock = PhaseClock(backend.spec.world.barrier) if measured else None  # it runs from now on: after the wait for images
        pending.append((iteration, rate, backend.train_step(batch.images, batch.labels, rate, clock), clock))
        while len(pending) > (0 if measured else behind):
            yield finish()
            other_seconds += time.perf_counter() - lap
    while pending:
        yield finish()
