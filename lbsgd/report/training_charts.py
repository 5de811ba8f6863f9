"""The charts of a run: loss, validation error, learning rate, speed and scaling efficiency over the epochs.

A curve of many steps is drawn twice: pale what every step had, and bold the means that the table lists.
"""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from lbsgd.record.summary import LEAST_PAIRS, efficiency_interval
from lbsgd.report import text
from lbsgd.report.axis import Axis, linear_axis, log_axis
from lbsgd.report.chart import MOST_MARKS, Chart, Line, Reading
from lbsgd.report.curves import Point, bins, outline, some

Lines = Sequence[dict[str, Any]]
Write = Callable[[float], str]

OUTLINE = 5
"""Columns of a pale curve for each row of its table; two points a column."""


MOST_INTERVALS = 12
"""Places at which the efficiency so far is shown with its interval."""


def training_charts(lines: Callable[[str], Lines], prefix: str, detail: int) -> list[Chart]:
    """Those charts that there are at least two points for.

    lines: of metrics.jsonl, by kind. prefix: of the charts' ids. detail: most rows of a table.
    """
    steps, evaluations, speeds, efficiencies = map(lines, ("step", "eval", "speed", "efficiency"))
    end = max((line["epoch"] for line in (*steps, *evaluations)), default=0.0)
    epochs = linear_axis("epoch", 0.0, end, exact=True)
    loss, rates, speed = (_points(lines, key) for lines, key in ((steps, "loss"), (steps, "lr"), (speeds, "images_per_second")))
    charts = []
    if len(loss) > 1:
        charts.append(_binned(f"{prefix}-loss", "Training loss", "loss", loss, epochs, text.number, detail, "every step"))
    if len(errors := _points(evaluations, "top1_error")) > 1:
        charts.append(_errors(f"{prefix}-error", errors, epochs, detail))
    if len(rates) > 1:
        charts.append(_rates(f"{prefix}-lr", rates, epochs, detail))
    if len(speed) > 1:
        charts.append(_binned(f"{prefix}-speed", "Speed", "images per second", speed, epochs, text.rate, detail, "as recorded"))
    if len(pairs := _points(efficiencies, "efficiency")) > LEAST_PAIRS:
        charts.append(_efficiency(f"{prefix}-efficiency", pairs, epochs, detail))
    return charts


def _points(lines: Lines, key: str) -> list[Point]:
    """A value over the epochs, without those that were not finite."""
    return [Point(line["epoch"], line[key]) for line in lines if line[key] is not None]


def _binned(id: str, title: str, label: str, points: list[Point], epochs: Axis, write: Write, detail: int, faint: str) -> Chart:
    """faint: what the pale curve is called, where points are more than rows of the table."""
    groups = bins(points, detail)
    lines = [Line("", [group.middle for group in groups])]
    if len(points) > len(groups):
        lines = [Line(faint, outline(points, OUTLINE * detail), look="faint"),
                 Line("mean", lines[0].points)]  # fmt: skip
    top = max(point.y for point in points)
    readings = [
        Reading(
            group.middle.x,
            (group.mean,),
            (text.number(round(group.middle.x, 3)), write(group.mean), write(group.low), write(group.high)),
        )
        for group in groups
    ]
    header = ("epoch", label, "lowest", "highest")
    y = linear_axis(label, min(0.0, min(point.y for point in points)), top)
    return Chart(id, title, _ends(title, groups[0].middle, groups[-1].middle, write), epochs, y, lines, header, readings)


def _ends(title: str, first: Point, last: Point, write: Write) -> str:
    return f"{title} goes from {write(first.y)} at epoch {first.x:.3g} to {write(last.y)} at epoch {last.x:.3g}."


def _errors(id: str, points: list[Point], epochs: Axis, detail: int) -> Chart:
    shown = some(points, detail)
    readings = [Reading(x, (y,), (text.number(round(x, 3)), text.error(y))) for x, y in shown]
    best = min(points, key=lambda point: point.y)
    description = _ends("Top-1 validation error", points[0], points[-1], text.error)
    description += f" The lowest is {text.error(best.y)}, at epoch {best.x:.3g}."
    y = linear_axis("top-1 error", 0.0, max(point.y for point in points), _whole_percent)
    line = Line("", outline(points, OUTLINE * detail), series=2, marked=len(points) <= MOST_MARKS)
    return Chart(id, "Validation error", description, epochs, y, [line], ("epoch", "top-1 error"), readings)


def _whole_percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _rates(id: str, points: list[Point], epochs: Axis, detail: int) -> Chart:
    low, high = min(point.y for point in points), max(point.y for point in points)
    far = low > 0 and high > 20 * low
    y = log_axis("learning rate", low, high) if far else linear_axis("learning rate", 0.0, high)
    readings = [Reading(x, (y,), (text.number(round(x, 3)), text.number(y))) for x, y in some(points, detail)]
    description = f"{_ends('The learning rate', points[0], points[-1], text.number)} The highest is {text.number(high)}."
    line = Line("", outline(points, OUTLINE * detail), series=3)
    return Chart(id, "Learning rate", description, epochs, y, [line], ("epoch", "learning rate"), readings)


def _efficiency(id: str, pairs: list[Point], epochs: Axis, detail: int) -> Chart:
    """Of each measured step, and the median of all so far with its 95 % interval."""
    counts = range(LEAST_PAIRS, len(pairs) + 1)
    chosen = [count for count, _ in some([Point(count, 0.0) for count in counts], min(detail, MOST_INTERVALS))]
    so_far, intervals, readings = [], [], []
    for count in map(int, chosen):
        values, epoch = [pair.y for pair in pairs[:count]], pairs[count - 1].x
        so_far.append(Point(epoch, median(values)))
        intervals.append(efficiency_interval(values, seed=0))
        low, high = intervals[-1]
        cells = (text.number(round(epoch, 3)), text.percent(so_far[-1].y), f"{text.percent(low)} to {text.percent(high)}")
        readings.append(Reading(epoch, (so_far[-1].y,), (*cells, str(count))))
    lines = [
        Line("each measured step", outline(pairs, OUTLINE * detail), look="faint"),
        Line("median so far", so_far, marked=True, intervals=intervals),
    ]
    header = ("epoch", "efficiency", "95 % interval", "measured steps")
    description = _ends("Scaling efficiency so far", so_far[0], so_far[-1], text.percent)
    values = [pair.y for pair in pairs]
    y = linear_axis("efficiency", min(0.9, *values), max(1.0, *values), _whole_percent)
    return Chart(id, "Scaling efficiency", description, epochs, y, lines, header, readings)
