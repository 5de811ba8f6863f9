"""Predictions of `lbsgd project`, shown beside what was measured and never as part of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lbsgd.agreement import flatten
from lbsgd.errors import UsageError
from lbsgd.report import text
from lbsgd.report.blocks import Section, Table, Text


class Predicted(NamedTuple):
    workers: int
    step_ms: float
    efficiency: float
    exposed_ms: float
    bottleneck: str


@dataclass(frozen=True)
class Projection:
    """points: by number of workers. assumptions: what they rest on, the error band among it; by name."""

    points: Sequence[Predicted]
    assumptions: dict[str, Any]


def read_projection(file: Path) -> Projection:
    """What `lbsgd project --json` printed.

    Raises UsageError when the file is something else.
    """
    try:
        content = json.loads(file.read_text())
        points = [Predicted(*(one[key] for key in ("gpus", "step_ms", "efficiency", "exposed_ms", "bottleneck")))
                  for one in content["predictions"]]  # fmt: skip
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"--projection {file} is not what `lbsgd project --json` prints: {error!r}") from error
    about = {key: content[key] for key in ("assumptions", "error_band") if content.get(key)}
    return Projection(sorted(points), flatten(about))


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
    said = Text("Computed from a model of the cluster by `lbsgd project`. Nothing here was measured.")
    table = Table("Predicted sizes", header, tuple(rows), text_columns=2)
    assumed = tuple((key, str(value)) for key, value in projection.assumptions.items())
    folded = Table("Assumptions and error band", ("what", "value"), assumed, text_columns=2, folded=True)
    return Section(id, "Prediction, not measured", (said, table, *([folded] if assumed else [])))
