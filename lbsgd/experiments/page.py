"""The page of a study, in Markdown: what was asked, what was run, what came out. All of it from the results alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lbsgd.experiments import figures
from lbsgd.experiments.figures import Line
from lbsgd.experiments.grid import Cell, Part, Study, cells_of, job_of, reference_of, seeds_of
from lbsgd.experiments.results import FINAL_EPOCHS, Result, Results
from lbsgd.experiments.statistics import Mean, difference, mean
from lbsgd.policy.schedule import build_schedule
from lbsgd.record.run_record import flatten

LABELS = {
    "global_batch": "global batch",
    "warmup.kind": "warm-up",
    "learning_rate.reference": "reference rate",
    "learning_rate.scaling": "scaling",
    "optimizer.kind": "optimiser",
    "optimizer.weight_decay": "weight decay",
    "last_gamma": "gamma",
}
"""What keys are called; others go by their own name."""

SHOWN = ("cores", "python", "torch", "tensorflow-cpu", "tensorflow", "horovod")
"""Of the environment."""

GENERATED = "<!-- Written by `lbsgd study`; change the study's file instead. -->"


@dataclass(frozen=True)
class Row:
    """A cell of a part with its results, by seed. values: of all keys, also those that the cell does not set."""

    cell: Cell
    values: Mapping[str, Any]
    results: Sequence[Result]

    @property
    def errors(self) -> list[float]:
        """In percent, of the runs that did not diverge."""
        return [100 * one.error for one in self.results if one.status == "done"]

    @property
    def diverged(self) -> int:
        return sum(one.status == "diverged" for one in self.results)


def rows_of(study: Study, part: Part, results: Results) -> list[Row]:
    """The cells that have a result."""
    found = []
    for cell in cells_of(study, part):
        ids = [job_of(study, cell, seed).id for seed in seeds_of(study, part)]
        found.append(Row(cell, values_of(study, cell), [results.runs[one] for one in ids if one in results.runs]))
    return [row for row in found if row.results]


def values_of(study: Study, cell: Cell) -> dict[str, Any]:
    """All that a cell's runs had, by key. A global batch that is not above the reference has no warm-up."""
    recipe = job_of(study, cell, 0).recipe
    schedule = build_schedule(recipe, global_batch=cell.global_batch, iterations_per_epoch=1)
    actual = {"framework": cell.framework, "global_batch": cell.global_batch, "warmup.kind": schedule.warmup}
    return flatten(recipe.model_dump(mode="json")) | actual | {"peak rate": schedule.peak_lr}


def write_page(study: Study, results: Results, file: Path) -> None:
    """Write the page, and its figures into a folder of the same name beside it."""
    folder = file.with_suffix("")
    for name, part in study.parts.items():
        if part.figure != "none" and (rows := rows_of(study, part, results)):
            folder.mkdir(parents=True, exist_ok=True)
            draw_part(part, rows, folder / name)
    file.write_text(page(study, results, folder.name))


def draw_part(part: Part, rows: Sequence[Row], stem: Path) -> None:
    """The figure of a part as SVG and PNG."""
    if part.figure == "batch":
        lines = batch_lines(part, rows)
        figures.draw(stem, lines, x="images in a global batch", y="top-1 error, %", logarithmic=True)
    else:
        figures.draw(stem, curves(part, rows), x="epoch", y="top-1 error, %", logarithmic=False)


def batch_lines(part: Part, rows: Sequence[Row]) -> list[Line]:
    """A line for each value of `lines`: mean error over the global batch."""
    lines = []
    for value in dict.fromkeys(row.values[part.lines] if part.lines else "" for row in rows):
        own = [row for row in rows if row.errors and (not part.lines or row.values[part.lines] == value)]
        means = [(row.cell.global_batch, mean(row.errors)) for row in sorted(own, key=lambda row: row.cell.global_batch)]
        points = [(batch, one.value) for batch, one in means]
        if points:
            lines.append(Line(f"{value}", points, [one.half_width for _, one in means]))
    return lines


def curves(part: Part, rows: Sequence[Row]) -> list[Line]:
    """A line for each cell: mean error after each epoch."""
    lines, varying = [], varying_keys(rows)
    for row in rows:
        done = [one.errors for one in row.results if one.status == "done"]
        if done:
            means = [mean([100 * error for error in epoch]) for epoch in zip(*done, strict=True)]
            points = [(number, one.value) for number, one in enumerate(means, start=1)]
            lines.append(Line(named(row, varying), points, [one.half_width for one in means]))
    return lines


def varying_keys(rows: Sequence[Row]) -> list[str]:
    """Of what any row sets, that which is not the same in all of them; the global batch first."""
    keys = dict.fromkeys(("global_batch", *(key for row in rows for key, _ in row.cell.settings)))
    return [key for key in keys if len({row.values[key] for row in rows}) > 1]


def named(row: Row, keys: Sequence[str]) -> str:
    """A row as the figure's legend names it."""
    return ", ".join(f"{LABELS.get(key, key)} {row.values[key]}" for key in keys)


def page(study: Study, results: Results, folder: str) -> str:
    """All of it. folder: where the figures are, seen from the page."""
    sections = [f"# {study.title}", GENERATED, study.introduction.strip(), about(study, results)]
    for name, part in study.parts.items():
        rows = rows_of(study, part, results)
        sections += [f"## {part.title}", f"**Claimed** ({part.source}): {part.claim}"]
        if not rows:
            sections.append("Not run yet.")
            continue
        if part.figure != "none":
            sections.append(f"![{part.title}]({folder}/{name}.svg)")
        sections += [table(study, part, rows), outcome(study, part, rows), part.note.strip()]
    return "\n\n".join(section for section in sections if section) + "\n"


def about(study: Study, results: Results) -> str:
    """What all parts have in common."""
    runs = list(results.runs.values())
    if not runs:
        return ""
    said = ", ".join(f"{key} {results.environment[key]}" for key in SHOWN if key in results.environment)
    hours = sum(one.seconds for one in runs) / 3600
    return (
        f"{len(runs)} runs, {hours:.1f} hours of them in all ({said}). An error is the median over the last {FINAL_EPOCHS} "
        "epochs of a run, as the paper reports it; a row gives the mean over seeds ± the standard deviation, and the 95 % "
        "interval of the mean (Student's t; Welch's for differences)."
    )


def table(study: Study, part: Part, rows: Sequence[Row]) -> str:
    """A row a cell."""
    reference = next((row for row in rows if row.cell == reference_of(study, part)), None)
    keys = [key for key in varying_keys(rows) if key != "global_batch"]
    header = (
        "global batch",
        *(LABELS.get(key, key) for key in keys),
        "peak rate",
        "runs",
        "top-1 error, %",
        "95 % interval",
        "difference, points",
    )
    lines = [header, ("---",) * len(header)]
    for row in rows:
        cells = (f"{row.cell.global_batch:,}", *(str(row.values[key]) for key in keys), f"{row.values['peak rate']:.4g}")
        lines.append((*cells, str(len(row.results)), *_errors(row), _difference(row, reference)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _errors(row: Row) -> tuple[str, str]:
    diverged = f"{row.diverged} diverged" if row.diverged else ""
    if not row.errors:
        return diverged, ""
    one = mean(row.errors)
    spread = f" ± {one.spread:.2f}" if one.spread is not None else ""
    interval = f"{one.interval[0]:.2f} to {one.interval[1]:.2f}" if one.interval else ""
    return ", ".join(filter(None, (f"{one.value:.2f}{spread}", diverged))), interval


def _difference(row: Row, reference: Row | None) -> str:
    if reference is row:
        return "reference"
    if reference is None or not (row.errors and reference.errors):
        return ""
    return signed(difference(row.errors, reference.errors))


def signed(one: Mean) -> str:
    """A difference with its interval."""
    if one.interval is None:
        return f"{one.value:+.2f}"
    return f"{one.value:+.2f} ({one.interval[0]:+.2f} to {one.interval[1]:+.2f})"


def outcome(study: Study, part: Part, rows: Sequence[Row]) -> str:
    """Which cells are like the reference, better or worse, by the intervals of their differences."""
    wanted = reference_of(study, part)
    reference = next((row for row in rows if row.cell == wanted and row.errors), None)
    if reference is None:
        return ""
    keys = varying_keys(rows)
    sorts: dict[str, list[str]] = {}
    for row in rows:
        if row is reference:
            continue
        sorts.setdefault(_sort(row, reference), []).append(named(row, keys))
    if not sorts:
        return ""
    said = "\n".join(f"- {sort}: {'; '.join(names)}" for sort, names in sorts.items())
    return f"**Came out**, against {named(reference, keys) or 'the reference'} ({fmean(reference.errors):.2f} %):\n\n{said}"


def _sort(row: Row, reference: Row) -> str:
    if row.diverged == len(row.results):
        return "all runs diverged"
    if row.diverged:
        return "some runs diverged"
    interval = difference(row.errors, reference.errors).interval
    if interval is None:
        return "too few runs to tell"
    return "worse" if interval[0] > 0 else "better" if interval[1] < 0 else "no difference that these runs can tell"
