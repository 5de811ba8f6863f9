"""What `lbsgd bench allreduce` prints: nccl-tests' table with a column for the transport, then the transports side by side."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lbsgd.measuring.allreduce import Measurement

COLUMNS = "{:>9} {:>12} {:>12} {:>8} {:>6}  {}  {}"
FIGURES = "{:>12} {:>8} {:>8} {:>7}"
HEADER = "\n".join(
    "#" + COLUMNS.format(*cells)[1:].rstrip()
    for cells in (
        ("", "", "", "", "", "out-of-place".center(38), "in-place".center(38)),
        ("through", "size", "count", "type", "redop", *[FIGURES.format("time", "algbw", "busbw", "#wrong")] * 2),
        ("", "(B)", "(elements)", "", "", *[FIGURES.format("(us)", "(GB/s)", "(GB/s)", "")] * 2),
    )
)


def row_text(measured: list["Measurement"], datatype: str) -> str:
    """The row of one size and transport: `measured` out of place and, where the transport has it, in place."""
    first = measured[0]
    figures = [_figures(row) for row in measured] + [FIGURES.format(*"----")] * (2 - len(measured))
    return COLUMNS.format(first.through, first.bytes, first.count, datatype, "sum", *figures)


def _figures(row: "Measurement") -> str:
    wrong = "-" if row.wrong is None else row.wrong
    return FIGURES.format(f"{row.seconds * 1e6:.2f}", f"{row.algbw:.3f}", f"{row.busbw:.3f}", wrong)


def summary_text(rows: list["Measurement"]) -> str:
    """Each transport's mean bus bandwidth over all rows, and whether its sums were right; times of several, side by side."""
    transports = {name: [row for row in rows if row.through == name] for name in dict.fromkeys(row.through for row in rows)}
    lines = [_verdict(name, own) for name, own in transports.items()]
    return "\n".join([*lines, *(_side_by_side(*transports.values()) if len(transports) > 1 else [])])


def _verdict(name: str, rows: list["Measurement"]) -> str:
    counts = [row.wrong for row in rows if row.wrong is not None]
    verdict = f"{sum(counts):,} wrong elements" if counts else "not checked"
    return f"# {name}: mean busbw {sum(row.busbw for row in rows) / len(rows):.3f} GB/s, {verdict}"


def _side_by_side(left: list["Measurement"], right: list["Measurement"]) -> list[str]:
    """In place if both can, as training does it: out of place, the time to get memory for the sum counts too."""
    in_place = left[-1].in_place and right[-1].in_place
    names = left[0].through, right[0].through
    lines = [
        f"# side by side, {'in-place' if in_place else 'out-of-place'}",
        f"#{'size (B)':>12} {names[0] + ' (us)':>14} {names[1] + ' (us)':>14} {'ratio':>8}",
    ]
    mine, theirs = ({row.bytes: row.seconds for row in rows if row.in_place == in_place} for rows in (left, right))
    for size, seconds in mine.items():
        lines.append(f"#{size:>12} {seconds * 1e6:>14.2f} {theirs[size] * 1e6:>14.2f} {theirs[size] / seconds:>8.2f}")
    return lines
