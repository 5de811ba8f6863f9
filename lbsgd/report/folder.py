"""What the report says of a folder of runs and studies: an overview, what can be compared, and each of the newest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lbsgd.measuring.baseline import kind_of_run
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
    runs: Sequence[tuple[Path, Record]]
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
    runs: Sequence[tuple[Path, Record]], targets: dict[str, str], evaluations: dict[str, list[Record]]
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


def _overview(runs: Sequence[tuple[Path, Record]], studies: Sequence[Record], targets: dict[str, str]) -> Iterator[object]:
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


def _overview_row(record: Record, targets: dict[str, str]) -> tuple[str | Link, ...]:
    final, speed, scaling = (record.get(key) or {} for key in ("final", "throughput", "scaling"))
    return (
        _cell(record["id"], targets),
        record["status"],
        record["framework"],
        record["recipe"]["model"],
        f"{record['world']['size']:,}",
        text.error(final.get("top1_error")),
        text.rate(speed.get("images_per_second")),
        text.percent(scaling.get("efficiency")),
    )


def _comparisons(
    runs: Sequence[tuple[Path, Record]], targets: dict[str, str], evaluations: dict[str, list[Record]]
) -> Iterator[Section]:
    """A section for each kind of which at least two runs ended with a speed."""
    kinds: dict[tuple[Any, ...], list[Record]] = {}
    for _, record in runs[:MOST_ROWS]:
        if record["status"] == "done" and record["throughput"]:
            kinds.setdefault(kind_of_run(record), []).append(record)
    groups = [(kind, records) for kind, records in kinds.items() if len(records) > 1]
    for number, (kind, records) in enumerate(groups, 1):
        framework, (model, batch, precision, size), (processor, device, _) = kind
        title = f"{model}, {framework}, {batch} images per worker, {precision}"
        about = Text(f"Images of {size} pixels on {device}, {processor}.")
        curves = {record["id"]: evaluations[record["id"]] for record in records if evaluations.get(record["id"])}
        grid = [Grid((_error_curves(f"compare-{number}-error", curves),))] if len(curves) > 1 else []
        yield Section(f"compare-{number}", title, (about, _comparison(records, targets), *grid))


def _comparison(records: Sequence[Record], targets: dict[str, str]) -> Table:
    """Speed a worker beside that of the newest run on the fewest workers."""
    baseline = min(records, key=lambda record: record["world"]["size"])
    speed = baseline["throughput"]["images_per_second_per_worker"]
    header = ("run", "workers", "images/s per worker", "against baseline", "communication off", "top-1 error")
    rows = []
    for record in sorted(records, key=lambda record: record["world"]["size"]):
        own = record["throughput"]["images_per_second_per_worker"]
        against = "baseline" if record is baseline else text.percent(own / speed)
        alone = (record["scaling"] or {}).get("efficiency")
        final = record["final"] or {}
        rows.append((_cell(record["id"], targets), f"{record['world']['size']:,}", text.rate(own), against,
                     text.percent(alone), text.error(final.get("top1_error"))))  # fmt: skip
    return Table(f"Speed per worker, against {baseline['id']}", header, tuple(rows))


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
