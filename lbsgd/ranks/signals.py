"""Signals that ask a run to stop: remembered here, acted on by all ranks together between two steps."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

# mpirun passes SIGUSR1 and SIGUSR2 on to every rank; Slurm and `lbsgd train --np` use them to announce the end.
Handler = Callable[[int, FrameType | None], Any] | int | None

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Interruption:
    """The first signal received, while used as a context. A second SIGINT or SIGTERM ends the process at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Handler] = {}

    def __enter__(self) -> "Interruption":
        self._previous = {number: signal.signal(number, self._remember) for number in HANDLED}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        again = self.received is not None and number in (signal.SIGTERM, signal.SIGINT)
        if again:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = self.received or signal.Signals(number)

    @property
    def exit_signal(self) -> int:
        """The signal that the exit code names: SIGINT for Ctrl-C, SIGTERM for all others; 0 when none came."""
        if self.received is None:
            return 0
        return int(signal.SIGINT if self.received == signal.SIGINT else signal.SIGTERM)
