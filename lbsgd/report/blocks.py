"""What a report's page is made of. Plain values: templates/blocks.html says how each looks.

`kind` names the macro that renders a block. All text is escaped where it is rendered.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Link:
    """A table's cell that leads to another part of the page. target: the id of a section."""

    text: str
    target: str


@dataclass(frozen=True)
class Headline:
    """A figure that is read first: its name, its value, and what it needs to be understood."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Headlines:
    kind: ClassVar = "headlines"
    items: tuple[Headline, ...]


@dataclass(frozen=True)
class Text:
    """A paragraph. warning: it says that something is wrong."""

    kind: ClassVar = "text"
    text: str
    warning: bool = False


@dataclass(frozen=True)
class Code:
    """A command line."""

    kind: ClassVar = "code"
    text: str


@dataclass(frozen=True)
class Table:
    """text_columns: how many columns, from the left, hold words rather than numbers. folded: shown on demand."""

    kind: ClassVar = "table"
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | Link, ...], ...]
    text_columns: int = 1
    folded: bool = False


@dataclass(frozen=True)
class Suggestion:
    """Something to try. because: the figures that led to it. steps: what to do, commands between backquotes."""

    title: str
    because: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Advice:
    """verdict: one sentence on what was lost, and where."""

    kind: ClassVar = "advice"
    verdict: str
    suggestions: tuple[Suggestion, ...] = ()


@dataclass(frozen=True)
class Grid:
    """Charts side by side where the page is wide enough."""

    kind: ClassVar = "grid"
    charts: tuple[object, ...]


@dataclass(frozen=True)
class Section:
    """id: unique on the page."""

    id: str
    title: str
    blocks: tuple[object, ...] = ()
    sections: tuple["Section", ...] = ()


@dataclass(frozen=True)
class Page:
    """subject: what kind of thing is reported, such as "Training run". status: running, done, failed or interrupted."""

    title: str
    subject: str
    status: str | None
    summary: tuple[str, ...]
    blocks: tuple[object, ...]
    sections: tuple[Section, ...]
