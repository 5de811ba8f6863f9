"""Tables of plain text, as commands print them."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], alignment: str = "<") -> list[str]:
    """A line per row, its columns as wide as their widest cell, two spaces apart.

    alignment: "<" or ">" per column, as in a format specification; the last one holds for all columns after it.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = alignment + alignment[-1] * (len(widths) - len(alignment))
    pads = [f"{side}{width}" for side, width in zip(sides, widths, strict=True)]
    return ["  ".join(map(format, row, pads)).rstrip() for row in rows]
