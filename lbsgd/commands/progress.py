"""How far a long command has come: a bar on a terminal, a line now and then elsewhere; on standard error."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_LINE_SECONDS = 5.0

Advance = Callable[[int], None]
"""Takes how many more are done."""


@contextmanager
def progress(task: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show `task` while the block runs, `done` of `total` images being done at its start."""
    console = Console(stderr=True)
    with _bar(console, task, total, done) if console.is_terminal else _lines(task, total, done) as advance:
        yield advance


@contextmanager
def _bar(console: Console, task: str, total: int, done: int) -> Iterator[Advance]:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        number = shown.add_task(task, total=total, completed=done)
        yield lambda count: shown.advance(number, count)


@contextmanager
def _lines(task: str, total: int, done: int) -> Iterator[Advance]:
    next_line = time.monotonic() + PLAIN_LINE_SECONDS

    def advance(count: int) -> None:
        nonlocal done, next_line
        done += count
        if time.monotonic() >= next_line:
            next_line = time.monotonic() + PLAIN_LINE_SECONDS
            click.echo(f"{task}: {done:,} of {total:,} images", err=True)

    yield advance
