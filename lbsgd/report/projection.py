"""Predictions of `lbsgd project`, shown beside what was measured and never as part of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lbsgd.errors import UsageError
from lbsgd.report import text
from lbsgd.report.blocks import Section, Table, Text


class Predicted(NamedTuple):
    workers: int
    step_ms: float
    efficiency: float
    efficiency_band: tuple[float, float]
    exposed_ms: float
    bottleneck: str


@dataclass(frozen=True)
class Projection:
    """points: by number of workers, each with the band in which nine of ten predictions of its kind lie. baseline: workers that
    efficiency refers to. assumptions: a sentence each."""

    points: Sequence[Predicted]
    baseline: int
    assumptions: Sequence[str]


def read_projection(file: Path) -> Projection:
    """What `lbsgd project --json` printed.

    Raises UsageError when the file is something else.
    """
    keys = ("gpus", "step_ms", "efficiency", "efficiency_band", "exposed_ms", "bottleneck")
    try:
        content = json.loads(file.read_text())
        points = sorted(Predicted(*(one[key] for key in keys)) for one in content["predictions"])
        return Projection(points, content["baseline_gpus"], tuple(map(str, content["assumptions"])))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"--projection {file} is not what `lbsgd project --json` prints: {error!r}") from error


def projection_section(projection: Projection, id: str) -> Section:
    header = ("workers", "bottleneck", "step", "exposed communication", "efficiency")
    rows = [
        (
            f"{one.workers:,}",
            one.bottleneck,
            text.milliseconds(one.step_ms),
            text.milliseconds(one.exposed_ms),
            text.percent(one.efficiency),
        )
        for one in projection.points
    ]
    said = Text(
        f"Computed by `lbsgd project` from a model of the cluster; nothing here was measured. Efficiency is against "
        f"{text.workers(projection.baseline)}. The bars in the chart reach as far as nine of ten predictions err of published "
        "measurements of systems of the same kind."
    )
    table = Table("Predicted sizes", header, tuple(rows), text_columns=2)
    assumed = tuple((one,) for one in projection.assumptions)
    return Section(
        id, "Prediction, not measured", (said, table, Table("What was assumed", ("assumption",), assumed, folded=True))
    )
