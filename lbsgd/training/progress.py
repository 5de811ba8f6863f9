"""What rank 0 tells while a run goes on: a moving line on a terminal, plain lines elsewhere."""

import sys
import time
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_LINE_SECONDS = 5.0


@dataclass(frozen=True)
class Status:
    """Where the run is. images_per_second counts all workers; efficiency: its median so far and its interval, fractions."""

    iteration: int
    epoch: float
    learning_rate: float
    loss: float
    images_per_second: float
    efficiency: tuple[float, float, float] | None
    seconds_left: float

    def text(self) -> str:
        parts = [
            f"epoch {self.epoch:6.2f}",
            f"lr {self.learning_rate:.4g}",
            f"loss {self.loss:.4f}",
            f"{self.images_per_second:,.0f} images/s",
        ]
        if self.efficiency is not None:
            value, low, high = (100 * share for share in self.efficiency)
            parts.append(f"efficiency {value:.0f} % ({low:.0f} to {high:.0f})")
        return "  ".join(parts)


class PlainReporter:
    """Lines on standard error, at most one every PLAIN_LINE_SECONDS beside the messages."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def __enter__(self) -> "PlainReporter":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")  # one write, or mpirun tags the line's end as a line
        sys.stderr.flush()

    def show(self, status: Status) -> None:
        if time.monotonic() - self._last >= PLAIN_LINE_SECONDS:
            self._last = time.monotonic()
            left = timedelta(seconds=round(status.seconds_left))
            self.say(f"{status.text()}  {left} left")


class TerminalReporter:
    """A rich progress bar below the messages."""

    def __init__(self, console: Console, start: int, total: int) -> None:
        self._console = console
        self._progress = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=total, completed=start)

    def __enter__(self) -> "TerminalReporter":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, status: Status) -> None:
        self._progress.update(self._task, completed=status.iteration, description=status.text())


Reporter = PlainReporter | TerminalReporter


def choose_reporter(start: int, total: int) -> Reporter:
    """The reporter for standard error as it is. start, total: iterations done and to do."""
    console = Console(stderr=True)
    return TerminalReporter(console, start, total) if console.is_terminal else PlainReporter()
