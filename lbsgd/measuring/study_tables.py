"""A study for people and for spreadsheets."""

import csv
import io
from typing import Any

from lbsgd.measuring.figures import precision
from lbsgd.measuring.step_parts import PARTS

HEADER = ("framework", "workers", "images/s", "per worker", "step ms p50", "p90", "efficiency", "95 % interval",
          "communication", "waiting", "data")  # fmt: skip


def rows(study: dict[str, Any]) -> list[tuple[str, ...]]:
    """HEADER's columns of each size, as text; a size without result has its state in place of the figures."""
    return [_row(size) for size in study["sizes"]]


def _row(size: dict[str, Any]) -> tuple[str, ...]:
    start = (size["framework"], str(size["workers"]))
    if size["status"] != "done":
        return (*start, size["status"], *[""] * (len(HEADER) - 3))
    parts = size["parts_ms"]
    return (
        *start,
        f"{size['images_per_second']:,.1f}",
        f"{size['images_per_second_per_worker']:,.1f}",
        f"{size['step_ms']['p50']:.1f}",
        f"{size['step_ms']['p90']:.1f}",
        _percent(size["efficiency"]),
        _interval(size),
        *(f"{parts[name]:.1f} ms" for name in ("communication", "waiting", "data")),
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _interval(size: dict[str, Any]) -> str:
    if size["workers"] == size["baseline_workers"]:
        return "baseline"
    interval = size["efficiency_interval"]
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else ""


def notes(study: dict[str, Any]) -> list[str]:
    """What a reader of the figures must know."""
    settings = study["settings"]
    said = [
        f"{settings['model']}, {settings['batch_per_gpu']} images per worker, {precision(study)}, {settings['data']}; "
        f"efficiency against {settings['baseline']} worker{'s' if settings['baseline'] > 1 else ''}, "
        f"median of {settings['repeats']} round{'s' if settings['repeats'] > 1 else ''}, the slowest rank's time"
    ]
    if settings["oversubscribed"]:
        said.append("NOT a scaling figure: more workers than slots shared them (--oversubscribe)")
    failed = [size for size in study["sizes"] if size["status"] == "failed"]
    return said + [f"{size['framework']} with {size['workers']} failed: {size['error']}" for size in failed]


def as_markdown(study: dict[str, Any]) -> str:
    """The table, the parts of a step and the notes in Markdown."""
    split = parts(study)
    where = ["Where a step goes, in ms:", "", *_markdown(split), ""] if split else []
    table = _markdown([HEADER, *rows(study)])
    return "\n".join([f"# {study['id']}", "", *table, "", *where, *(f"- {note}" for note in notes(study)), ""])


def as_csv(study: dict[str, Any]) -> str:
    """One line per size, numbers in full; empty where there is none."""
    names = ("framework", "workers", "status", "images_per_second", "images_per_second_per_worker", "step_ms_p50",
             "step_ms_p90", "efficiency", "efficiency_low", "efficiency_high", "baseline_workers", "allreduce_ms",
             *(f"{part}_ms" for part in PARTS), "oversubscribed", "error")  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    for size in study["sizes"]:
        row = {name: size[name] for name in names if size.get(name) is not None}
        if size["status"] == "done":
            low, high = size["efficiency_interval"] or ("", "")
            row |= {"step_ms_p50": size["step_ms"]["p50"], "step_ms_p90": size["step_ms"]["p90"]}
            row |= {"efficiency_low": low, "efficiency_high": high}
            row |= {f"{part}_ms": size["parts_ms"][part] for part in PARTS}
        writer.writerow(row | {"oversubscribed": study["settings"]["oversubscribed"]})
    return text.getvalue()


def parts(study: dict[str, Any]) -> list[tuple[str, ...]]:
    """A header and a row for each finished size; empty where there is none."""
    done = [size for size in study["sizes"] if size["status"] == "done"]
    header = ("framework", "workers", *PARTS, "step", "whole allreduce")
    return [header, *map(_parts_row, done)] if done else []


def _parts_row(size: dict[str, Any]) -> tuple[str, ...]:
    parts = size["parts_ms"]
    alone = "" if size["allreduce_ms"] is None else f"{size['allreduce_ms']:.1f}"
    whole = sum(parts.values())
    return (size["framework"], str(size["workers"]), *(f"{parts[name]:.1f}" for name in PARTS), f"{whole:.1f}", alone)


def _markdown(table: list[tuple[str, ...]]) -> list[str]:
    header, *body = table
    return [f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *body)]
