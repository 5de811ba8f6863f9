"""The charts of a study over the number of workers: images per second beside the ideal, and efficiency with its interval."""

import math
from collections.abc import Sequence
from typing import Any

from lbsgd.report import text
from lbsgd.report.axis import Axis, count_axis, linear_axis, log_axis, wide
from lbsgd.report.chart import Chart, Line, Reading
from lbsgd.report.curves import Point
from lbsgd.report.projection import Predicted, Projection

Size = dict[str, Any]

SERIES = {"torch": 1, "tensorflow": 2}


def scaling_charts(sizes: Sequence[Size], prefix: str, projection: Projection | None) -> list[Chart]:
    """sizes: those with a result, at least one. prefix: of the charts' ids."""
    charts = [_speed(sizes, f"{prefix}-speed")]
    compared = [size for size in sizes if size["efficiency"] is not None]
    if compared or projection:
        charts.append(_efficiency(compared, f"{prefix}-efficiency", projection))
    return charts


def _by_framework(sizes: Sequence[Size]) -> dict[str, list[Size]]:
    found: dict[str, list[Size]] = {}
    for size in sorted(sizes, key=lambda size: size["workers"]):
        found.setdefault(size["framework"], []).append(size)
    return found


def _speed(sizes: Sequence[Size], id: str) -> Chart:
    counts = [size["workers"] for size in sizes]
    lines: list[Line] = []
    for framework, own in _by_framework(sizes).items():
        measured = [Point(size["workers"], size["images_per_second"]) for size in own]
        ends = own[0]["workers"], own[-1]["workers"]
        ideal = [Point(count, count * own[0]["images_per_second_per_worker"]) for count in ends]
        lines.append(Line("" if lines else "ideal", ideal, SERIES[framework], look="ideal"))
        lines.append(Line(framework, measured, SERIES[framework], marked=True))
    values = [point.y for line in lines for point in line.points]
    y = log_axis("images/s", min(values), max(values)) if wide(counts) else linear_axis("images/s", 0.0, max(values))
    said = "; ".join(
        f"{size['framework']}, {text.workers(size['workers'])}: {text.rate(size['images_per_second'])}" for size in sizes
    )
    readings = [
        Reading(
            size["workers"],
            (size["images_per_second"],),
            (
                f"{size['workers']:,}",
                size["framework"],
                text.rate(size["images_per_second"]),
                text.rate(size["images_per_second_per_worker"]),
            ),
        )
        for size in sizes
    ]
    header = ("workers", "framework", "images/s", "per worker")
    return Chart(
        id, "Images per second", f"Images per second. {said}.", count_axis("workers", counts), y, lines, header, readings
    )


def _efficiency(sizes: Sequence[Size], id: str, projection: Projection | None) -> Chart:
    predicted = projection.points if projection else ()
    x = count_axis("workers", [size["workers"] for size in sizes] + [point.workers for point in predicted])
    lines = [Line("ideal", [Point(x.low, 1.0), Point(x.high, 1.0)], look="ideal", series=0)]
    for framework, own in _by_framework(sizes).items():
        points = [Point(size["workers"], size["efficiency"]) for size in own]
        intervals = [tuple(size["efficiency_interval"] or (size["efficiency"],) * 2) for size in own]
        lines.append(Line(framework, points, SERIES[framework], marked=True, intervals=intervals))
    readings = [_reading(size) for size in sizes]
    if projection:
        lines.append(_prediction(projection))
        readings += [_predicted_reading(point, projection) for point in predicted]
    readings.sort(key=lambda reading: reading.x)
    said = "; ".join(f"{reading.cells[1]}, {reading.cells[0]} workers: {reading.cells[2]}" for reading in readings)
    header = ("workers", "framework", "efficiency", "interval")
    return Chart(id, "Scaling efficiency", f"Efficiency. {said}.", x, _shares(lines), lines, header, readings)


def _prediction(projection: Projection) -> Line:
    points = [Point(point.workers, point.efficiency) for point in projection.points]
    intervals = [(low, min(max(efficiency, 1.0), high)) for _, _, efficiency, (low, high), *_ in projection.points]
    return Line("prediction", points, series=4, look="prediction", marked=True, intervals=intervals)


def _predicted_reading(point: Predicted, projection: Projection) -> Reading:
    low, high = (100 * end for end in point.efficiency_band)
    spread = "baseline" if point.workers == projection.baseline else f"{low:.0f} to {high:.0f} %"
    cells = (f"{point.workers:,}", "prediction", text.percent(point.efficiency), spread)
    return Reading(point.workers, (point.efficiency,), cells)


def _reading(size: Size) -> Reading:
    ends = size["efficiency_interval"]
    interval = f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f} %" if ends else text.UNKNOWN
    cells = (f"{size['workers']:,}", size["framework"], text.percent(size["efficiency"]), interval)
    return Reading(size["workers"], (size["efficiency"],), cells)


def _shares(lines: Sequence[Line]) -> Axis:
    """From a round number below all of it, so that a few percent can be seen; 100 % is always on it."""
    values = [value for line in lines for value in (*(point.y for point in line.points), *sum(line.intervals, ()))]
    low = max(0.0, math.floor(10 * min(values) - 0.5) / 10)
    return linear_axis("efficiency", low, max(1.01, *values), lambda share: f"{100 * share:.3g} %", exact=True)
