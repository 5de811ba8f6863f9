"""What `lbsgd bench --gpus` prints: the sizes of a study, where their steps go, and what a reader must know of both."""

from typing import Any

from lbsgd.commands.text_table import aligned
from lbsgd.measuring.study_tables import HEADER, notes, parts, rows


def as_text(study: dict[str, Any]) -> str:
    """An aligned table, then the parts of a step, then the notes."""
    table = aligned([HEADER, *rows(study)], ">")
    split = parts(study)
    where = ["where a step goes, in ms:", *aligned(split, ">"), ""] if split else []
    return "\n".join([*table, "", *where, *notes(study)])
