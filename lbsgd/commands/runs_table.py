"""The lines of `lbsgd runs list`: a run or a study each, in figures that people round."""

from datetime import datetime
from typing import Any

from lbsgd.record.run_content import RunContent, key_figures, seconds_of
from lbsgd.report import text

HEADER = [
    "run",
    "status",
    "started",
    "took",
    "framework",
    "model",
    "workers",
    "epochs",
    "top-1 error",
    "images/s",
    "efficiency",
]
ALIGNMENT = "<<<><<>>>>>"


def run_row(record: RunContent) -> list[str]:
    """The cells of a run."""
    error, speed, _ = key_figures(record)
    final, scaling = record.get("final"), record.get("scaling")
    return [
        record["id"],
        record["status"],
        _minute(record["attempts"][0]["started"]),
        _plain(text.seconds(seconds_of(record))),
        record["framework"],
        record["recipe"]["model"],
        str(record["world"]["size"]),
        f"{final['epoch']:.4g}" if final else "-",
        _plain(text.error(error)),
        _plain(text.rate(speed)),
        _efficiency(scaling["efficiency"], scaling.get("interval")) if scaling else "-",
    ]


def study_row(study: dict[str, Any]) -> list[str]:
    """The cells of a study: speed and efficiency are those of its most workers."""
    done = [size for size in study["sizes"] if size["status"] == "done"]
    largest: dict[str, Any] = max(done, key=lambda size: size["workers"], default={})
    settings = study["settings"]
    took = _seconds_between(study["started"], study["ended"]) if study["ended"] else None
    return [
        study["id"],
        study["status"],
        _minute(study["started"]),
        _plain(text.seconds(took)),
        ",".join(settings["frameworks"]),
        settings["model"],
        ",".join(map(str, settings["gpus"])),
        "-",
        "-",
        _plain(text.rate(largest.get("images_per_second"))),
        _efficiency(largest.get("efficiency"), largest.get("efficiency_interval")),
    ]


def _efficiency(value: float | None, interval: list[float] | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" + (f" ± {50 * (interval[1] - interval[0]):.1f}" if interval else "")


def _minute(utc: str) -> str:
    return utc[:16].replace("T", " ")


def _seconds_between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _plain(cell: str) -> str:
    """As it can be searched for and parted at spaces; what is not known is a hyphen."""
    return "-" if cell == text.UNKNOWN else cell.replace("\N{NO-BREAK SPACE}", " ")
