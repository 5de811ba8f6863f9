"""How far a build is, and why it failed, read from what CMake, make and the compiler print."""

import re
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

PERCENT = re.compile(r"^\s*\[\s*(\d+)%\]")
ERROR = re.compile(r"\berror: |^\s*CMake Error|\bundefined reference to|\*\*\* .*\bError\b")
LINES_OF_ERROR = 5
SECONDS_BETWEEN_LINES = 15.0


def percent_done(line: str) -> int | None:
    """The percentage in a line of CMake's makefiles ("[ 42%] Building ..."), None in any other."""
    match = PERCENT.match(line)
    return int(match[1]) if match else None


def first_error(lines: Iterable[str]) -> str:
    """The first error that a tool reports and the lines after it; the end of the output when none does."""
    lines = list(lines)
    start = next(
        (number for number, line in enumerate(lines) if ERROR.search(line)),
        max(0, len(lines) - LINES_OF_ERROR),
    )
    return "\n".join(lines[start : start + LINES_OF_ERROR])


class ProgressLines:
    """Progress for a log: a line at each tenth, and after SECONDS_BETWEEN_LINES without one."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.write, self.clock = write, clock
        self.started = self.written = clock()
        self.percent = 0
        self.told = 0

    def __enter__(self) -> "ProgressLines":
        self.write("building Horovod (takes a few minutes)")
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def line(self, line: str) -> None:
        """Take one line of the build's output."""
        self.percent = max(self.percent, percent_done(line) or 0)
        now = self.clock()
        if self.percent // 10 > self.told // 10 or now - self.written >= SECONDS_BETWEEN_LINES:
            self.write(f"building Horovod: {self.percent} % after {now - self.started:.0f} s")
            self.told, self.written = self.percent, now


class ProgressBar:
    """The same as a bar on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        columns = (TextColumn("building Horovod"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task("build", total=100)

    def __enter__(self) -> "ProgressBar":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def line(self, line: str) -> None:
        percent = percent_done(line)
        if percent is not None:
            self.bar.update(self.task, completed=percent)


Progress = AbstractContextManager[ProgressLines | ProgressBar]
