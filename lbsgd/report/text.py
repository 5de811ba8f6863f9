"""Numbers as people read them, tied to their units by spaces that no line breaks at. None, what is not known, is a dash."""

from collections.abc import Callable
from functools import wraps
from typing import Any

UNKNOWN = "–"


def _known(write: Callable[[Any], str]) -> Callable[[Any], str]:
    @wraps(write)
    def text(value: Any) -> str:
        return UNKNOWN if value is None else write(value)

    return text


@_known
def percent(share: float) -> str:
    """0.9116 -> 91.2 %."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


@_known
def error(share: float) -> str:
    """An error rate, in which a tenth of a percent matters: 0.2374 -> 23.74 %."""
    return f"{100 * share:.2f}\N{NO-BREAK SPACE}%"


@_known
def rate(value: float) -> str:
    """Images per second."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


@_known
def milliseconds(value: float) -> str:
    digits = f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 1 or value <= 0 else f"{value:.2g}"
    return f"{digits}\N{NO-BREAK SPACE}ms"


@_known
def number(value: float) -> str:
    """Any other number, to four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


@_known
def tick(value: float) -> str:
    """A number beside an axis, where there is little room: 1500 -> 1.5k."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.4g}{name}"
    return f"{value:.4g}"


@_known
def seconds(value: float) -> str:
    """A duration: 4980 -> 1 h 23 min."""
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@_known
def moment(value: str) -> str:
    """A time of a record, without the letters that make it one word."""
    return value.replace("T", " ").replace("Z", " UTC")


def count(number: int, one: str, many: str | None = None) -> str:
    """1 run, 2 runs."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def workers(number: int) -> str:
    return count(number, "worker")
