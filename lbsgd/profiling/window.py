"""Which iterations are profiled."""

import re
from dataclasses import dataclass

from lbsgd.errors import UsageError

AUTOMATIC = "auto"
"""The window that `--profile` without a value asks for."""

SETTLING, LENGTH = 10, 10
"""Iterations that are let pass first, and iterations of the window, where the user does not say."""


@dataclass(frozen=True)
class Window:
    """The iterations first .. stop - 1."""

    first: int
    stop: int

    def __str__(self) -> str:
        return f"{self.first}:{self.stop}"


def parse_window(text: str) -> Window | None:
    """The window "N:M", None for AUTOMATIC.

    Raises UsageError.
    """
    if text == AUTOMATIC:
        return None
    numbers = re.fullmatch(r"(\d+):(\d+)", text)
    if not numbers or int(numbers[1]) >= int(numbers[2]):
        raise UsageError(f"--profile {text!r} is not N:M with N below M, such as 100:110 for iterations 100 to 109")
    return Window(int(numbers[1]), int(numbers[2]))


def place_window(text: str, start: int, stop: int) -> Window:
    """The window of a run that takes the iterations start .. stop - 1.

    Raises UsageError when it does not lie within them.
    """
    asked = parse_window(text)
    if asked is None:
        first = min(start + SETTLING, max(start, stop - LENGTH))
        return Window(first, min(first + LENGTH, stop))
    if asked.first < start or asked.stop > stop:
        raise UsageError(f"--profile {asked} lies outside of this run, which takes iterations {start}:{stop}")
    return asked
