"""What the report says of a folder of runs and studies: an overview, what can be compared, and each of the newest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lbsgd.measuring.baseline import kind_of_run
from lbsgd.record.run_content import RunContent, key_figures
from lbsgd.record.run_record import read_metrics
from lbsgd.report import run, study, text
from lbsgd.report.axis import linear_axis
from lbsgd.report.blocks import Grid, Link, Section, Table, Text
from lbsgd.report.chart import MOST_MARKS, Chart, Line, Reading
from lbsgd.report.curves import Point, outline, some

Record = dict[str, Any]

MOST_SECTIONS = 12
"""The newest runs and studies have their curves on the page, the rest a line in the overview: a page is read, not archived."""
DETAIL = 20
MOST_ROWS = 500
MOST_CURVES = 4


@dataclass(frozen=True)
class Folder:
    """runs: folder and run.json of each; studies: bench.json of each; oldest first. unreadable: why others were left out."""

    path: Path
    runs: Sequence[tuple[Path, RunContent]]
    studies: Sequence[Record]
    unreadable: Sequence[str]


def summary(folder: Folder) -> tuple[str, ...]:
    counts = (text.count(len(folder.runs), "run"), text.count(len(folder.studies), "scaling study", "scaling studies"))
    return (*counts, str(folder.path.absolute()))


def blocks(folder: Folder) -> tuple[object, ...]:
    """What could not be read, first of all."""
    said = [Text(line, warning=True) for line in folder.unreadable]
    if not (folder.runs or folder.studies):
        said.append(Text("Nothing is recorded here; `lbsgd train` and `lbsgd bench` record."))
    return tuple(said)


def sections(folder: Folder) -> tuple[Section, ...]:
    """The overview, the comparisons, then each of the newest."""
    runs = list(reversed(folder.runs))
    studies = list(reversed(folder.studies))
    newest = sorted([record["id"] for _, record in runs] + [content["id"] for content in studies], reverse=True)
    targets = {name: f"item-{number}" for number, name in enumerate(newest[:MOST_SECTIONS], 1)}
    evaluations: dict[str, list[Record]] = {}
    told = [*_studies(studies, targets), *_runs(runs, targets, evaluations)]
    told.sort(key=lambda section: section.title, reverse=True)
    overview = Section("overview", "Overview", tuple(_overview(runs, studies, targets)))
    comparisons = Section("compare", "Comparable runs", (), tuple(_comparisons(runs, targets, evaluations)))
    found = [overview] if overview.blocks else []
    return (*found, *([comparisons] if comparisons.sections else []), *told)


def _runs(
    runs: Sequence[tuple[Path, RunContent]], targets: dict[str, str], evaluations: dict[str, list[Record]]
) -> Iterator[Section]:
    """A section of each run that has a target; the evaluations of each are kept for the comparisons."""
    for path, record in runs:
        if target := targets.get(record["id"]):
            one = run.RecordedRun(record, read_metrics(path))
            evaluations[record["id"]] = one.lines("eval")
            about = Text(" · ".join((record["status"], *run.summary(record))))
            yield Section(target, record["id"], (about, *run.blocks(one)), run.results(one, target, DETAIL))


def _studies(studies: Sequence[Record], targets: dict[str, str]) -> Iterator[Section]:
    for content in studies:
        if target := targets.get(content["id"]):
            about = Text(" · ".join((content["status"], *study.summary(content))))
            yield Section(target, content["id"], (about, *study.blocks(content)), study.sections(content, target))


def _cell(name: str, targets: dict[str, str]) -> str | Link:
    return Link(name, targets[name]) if name in targets else name


def _overview(runs: Sequence[tuple[Path, RunContent]], studies: Sequence[Record], targets: dict[str, str]) -> Iterator[object]:
    if runs:
        header = ("run", "status", "framework", "model", "workers", "top-1 error", "images/s", "efficiency")
        shown = [_overview_row(record, targets) for _, record in runs[:MOST_ROWS]]
        yield Table(_caption("Runs, newest first", len(shown), len(runs)), header, tuple(shown), text_columns=4)
    if studies:
        columns = ("study", "status", "frameworks", "model", "workers", "sizes measured")
        rows = [
            (
                _cell(content["id"], targets),
                content["status"],
                ", ".join(content["settings"]["frameworks"]),
                content["settings"]["model"],
                ", ".join(map(str, content["settings"]["gpus"])),
                f"{len(study.done(content))} of {len(content['sizes'])}",
            )
            for content in studies[:MOST_ROWS]
        ]
        yield Table(_caption("Scaling studies, newest first", len(rows), len(studies)), columns, tuple(rows), text_columns=4)
    if len(targets) < len(runs) + len(studies):
        yield Text(
            f"The newest {len(targets)} are shown below; `lbsgd report NAME` shows any other, and what a run was asked for."
        )


def _caption(what: str, shown: int, count: int) -> str:
    return what if shown == count else f"{what}: {shown:,} of {count:,}"


def _overview_row(record: RunContent, targets: dict[str, str]) -> tuple[str | Link, ...]:
    error, speed, efficiency = key_figures(record)
    return (
        _cell(record["id"], targets),
        record["status"],
        record["framework"],
        record["recipe"]["model"],
        f"{record['world']['size']:,}",
        text.error(error),
        text.rate(speed),
        text.percent(efficiency),
    )


class Timed(NamedTuple):
    """A finished run with its speed. per_worker: images per second."""

    record: RunContent
    workers: int
    per_worker: float


def _comparisons(
    runs: Sequence[tuple[Path, RunContent]], targets: dict[str, str], evaluations: dict[str, list[Record]]
) -> Iterator[Section]:
    """A section for each kind of which at least two runs ended with a speed."""
    kinds: dict[tuple[tuple[str, Any], ...], list[Timed]] = {}
    for _, record in runs[:MOST_ROWS]:
        throughput = record["throughput"]
        if record["status"] == "done" and throughput:
            timed = Timed(record, record["world"]["size"], throughput["images_per_second_per_worker"])
            kinds.setdefault(tuple(kind_of_run(record).items()), []).append(timed)
    groups = [(kind, timed) for kind, timed in kinds.items() if len(timed) > 1]
    for number, (kind, group) in enumerate(groups, 1):
        of = dict(kind)
        title = f"{of['model']}, {of['framework']}, {of['images per worker']} images per worker, {of['precision']}"
        about = Text(f"Images of {of['image size']} pixels, {of['data']}, on {of['device']}, {of['processor']}.")
        names = [timed.record["id"] for timed in group]
        curves = {name: evaluations[name] for name in names if evaluations.get(name)}
        grid = [Grid((_error_curves(f"compare-{number}-error", curves),))] if len(curves) > 1 else []
        yield Section(f"compare-{number}", title, (about, _comparison(group, targets), *grid))


def _comparison(group: Sequence[Timed], targets: dict[str, str]) -> Table:
    """Speed per worker beside that of the newest run on the fewest workers."""
    baseline = min(group, key=lambda timed: timed.workers)
    header = ("run", "workers", "images/s per worker", "against baseline", "efficiency", "top-1 error")
    rows = []
    for timed in sorted(group, key=lambda timed: timed.workers):
        against = "baseline" if timed is baseline else text.percent(timed.per_worker / baseline.per_worker)
        error, _, alone = key_figures(timed.record)
        rows.append((_cell(timed.record["id"], targets), f"{timed.workers:,}", text.rate(timed.per_worker), against,
                     text.percent(alone), text.error(error)))  # fmt: skip
    return Table(f"Speed per worker, against {baseline.record['id']}", header, tuple(rows))


def _error_curves(id: str, curves: dict[str, list[Record]]) -> Chart:
    """Validation error of the newest runs over the epochs."""
    names = list(curves)[:MOST_CURVES]
    lines, readings = [], []
    for series, name in enumerate(names, 1):
        points = [Point(line["epoch"], line["top1_error"]) for line in curves[name]]
        lines.append(Line(name, outline(points, 100), series, marked=len(points) <= MOST_MARKS))
        readings += [Reading(x, (y,), (text.number(round(x, 3)), name, text.error(y))) for x, y in some(points, DETAIL)]
    readings.sort(key=lambda reading: reading.x)
    points = [point for line in lines for point in line.points]
    x = linear_axis("epoch", 0.0, max(point.x for point in points), exact=True)
    y = linear_axis("top-1 error", 0.0, max(point.y for point in points), lambda share: f"{100 * share:.3g} %")
    said = "; ".join(f"{line.name}: {text.error(line.points[-1].y)} at epoch {line.points[-1].x:.3g}" for line in lines)
    header = ("epoch", "run", "top-1 error")
    return Chart(id, "Validation error", f"Validation error over the epochs. {said}.", x, y, lines, header, readings)
