"""What communication adds to a step when it runs beside backward: the part that is left when backward has ended.

Gradients are sent in the order they appear, one message at a time, as Horovod does: what is ready when the last message is
through goes into the next one, up to the fusion threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from lbsgd.projection.backward import Gradient
from lbsgd.projection.cluster import Collective

STANDARD_NORMAL = NormalDist()


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """threshold: bytes of a message that gradients are put together in, 0 for one message each; cycle: seconds between looks
    at what is ready."""

    threshold: float
    cycle: float


@dataclass(frozen=True)
class Communication:
    """end: seconds from the start of backward to the end of the last message. busy: seconds that the messages took together.
    largest: bytes of the largest message."""

    end: float
    busy: float
    largest: float


def communicate(gradients: Sequence[Gradient], backward: float, collective: Collective, fusion: Fusion) -> Communication:
    """Send all gradients of a backward of that many seconds. The recurrence is MG-WFBP's (Shi, Chu and Li 2019), by messages.

    A gradient waits half a cycle on average before it is looked at.
    """
    end = busy = largest = 0.0
    first = 0
    while first < len(gradients):
        start = max(end, gradients[first].ready * backward + fusion.cycle / 2)
        size, first = _next_message(gradients, first, backward, start, fusion.threshold)
        seconds = _seconds(collective, size, start, backward)
        end, busy, largest = start + seconds, busy + seconds, max(largest, size)
    return Communication(end, busy, largest)


def exposed(communication: Communication, backward: float, spread: float) -> float:
    """Mean seconds that communication goes on after backward, when its duration varies with the standard deviation
    `spread` * busy.

    The variation matters where communication is nearly hidden: a mean that just fits does not fit every time.
    """
    excess, deviation = communication.end - backward, spread * communication.busy
    if deviation == 0:
        return max(0.0, excess)
    z = excess / deviation
    return excess * STANDARD_NORMAL.cdf(z) + deviation * STANDARD_NORMAL.pdf(z)


def _next_message(
    gradients: Sequence[Gradient], first: int, backward: float, start: float, threshold: float
) -> tuple[float, int]:
    """Bytes of the message that begins with gradient `first` at `start`, and the first gradient after it."""
    size, after = gradients[first].size, first + 1
    while after < len(gradients) and gradients[after].ready * backward <= start and size + gradients[after].size <= threshold:
        size, after = size + gradients[after].size, after + 1
    return size, after


def _seconds(collective: Collective, size: float, start: float, backward: float) -> float:
    """Duration of a message: at the slower rate as long as backward runs, at the full one from then on."""
    if start >= backward:
        return collective.seconds(size)
    slow = collective.seconds_beside_backward(size)
    part = min(1.0, (backward - start) / slow)
    return part * slow + (1 - part) * collective.seconds(size)
