"""What the report says of a bench study: one model on several numbers of workers."""

from collections import Counter
from statistics import median
from typing import Any

from lbsgd.measuring.figures import precision
from lbsgd.measuring.step_parts import PARTS, StepParts
from lbsgd.report import text
from lbsgd.report.advice import Breakdown, SlowestRank, advise
from lbsgd.report.blocks import Code, Grid, Headline, Headlines, Section, Table, Text
from lbsgd.report.chart import Bars, stack
from lbsgd.report.projection import Projection, projection_section
from lbsgd.report.run import environment_table
from lbsgd.report.scaling_charts import scaling_charts

Content = dict[str, Any]
Size = dict[str, Any]


def done(study: Content, framework: str | None = None) -> list[Size]:
    """The sizes that have a result, of one framework or of all."""
    return [size for size in study["sizes"] if size["status"] == "done" and framework in (None, size["framework"])]


def summary(study: Content) -> tuple[str, ...]:
    """What was measured, in a few words each."""
    settings = study["settings"]
    return (
        settings["model"],
        ", ".join(settings["frameworks"]),
        f"{', '.join(f'{count:,}' for count in settings['gpus'])} workers",
        f"{settings['batch_per_gpu']:,} images per worker",
        precision(study),
        settings["data"],
    )


def blocks(study: Content) -> tuple[object, ...]:
    """What is read first: warnings, and the figures of the largest sizes."""
    warnings = []
    if study["settings"]["oversubscribed"]:
        text_ = "Not a scaling figure: workers shared slots (--oversubscribe), so they took time from one another."
        warnings.append(Text(text_, warning=True))
    if failed := [size for size in study["sizes"] if size["status"] == "failed"]:
        names = ", ".join(_name(size) for size in failed)
        warnings.append(Text(f"Failed: {names}. The causes are below; the other figures stand.", warning=True))
    items = [headline for framework in study["settings"]["frameworks"] for headline in _headlines(study, framework)]
    return (*warnings, Headlines(tuple(items))) if items else (*warnings, Text("Nothing is measured yet."))


def _headlines(study: Content, framework: str) -> list[Headline]:
    sizes = done(study, framework)
    if not sizes:
        return []
    largest = max(sizes, key=lambda size: size["workers"])
    a_worker = f"{text.rate(largest['images_per_second_per_worker'])} per worker"
    speed = Headline(f"Images per second, {_name(largest)}", text.rate(largest["images_per_second"]), a_worker)
    if largest["efficiency"] is None:
        return [speed]
    note = f"against {text.workers(largest['baseline_workers'])}, 95 % interval {_interval(largest)}"
    return [speed, Headline(f"Efficiency, {_name(largest)}", text.percent(largest["efficiency"]), note)]


def _name(size: Size) -> str:
    return f"{size['framework']} on {text.workers(size['workers'])}"


def _interval(size: Size) -> str:
    if not size["efficiency_interval"]:
        return text.UNKNOWN
    low, high = size["efficiency_interval"]
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def sections(study: Content, prefix: str, projection: Projection | None = None) -> tuple[Section, ...]:
    """prefix: of the sections' ids. projection: drawn beside the measured figures, and told apart from them."""
    found = (
        Section(f"{prefix}-scaling", "Scaling", _scaling(study, prefix, projection)),
        *([projection_section(projection, f"{prefix}-prediction")] if projection else []),
        Section(f"{prefix}-time", "Where the time went", _time(study, prefix)),
        Section(f"{prefix}-next", "What to try next", tuple(advise(one) for one in _largest(study))),
        Section(f"{prefix}-failed", "Sizes without result", _failed(study)),
        Section(f"{prefix}-environment", "How it was measured", _conditions(study)),
    )
    return tuple(section for section in found if section.blocks)


def _scaling(study: Content, prefix: str, projection: Projection | None) -> tuple[object, ...]:
    sizes = done(study)
    if not sizes:
        return ()
    header = ("framework", "workers", "images/s", "per worker", "step p50", "step p90", "efficiency", "95 % interval")
    table = Table("Every size that was measured", header, tuple(_row(size) for size in sizes), text_columns=1)
    return Grid(tuple(scaling_charts(sizes, f"{prefix}-chart", projection))), table


def _row(size: Size) -> tuple[str, ...]:
    return (
        size["framework"],
        f"{size['workers']:,}",
        text.rate(size["images_per_second"]),
        text.rate(size["images_per_second_per_worker"]),
        text.milliseconds(size["step_ms"]["p50"]),
        text.milliseconds(size["step_ms"]["p90"]),
        text.percent(size["efficiency"]),
        _interval(size),
    )


def _time(study: Content, prefix: str) -> tuple[object, ...]:
    sizes = done(study)
    if not sizes:
        return ()
    longest = max(sum(max(ms, 0.0) for ms in size["parts_ms"].values()) for size in sizes)
    bars = [_bar(size, longest) for size in sizes]
    header = ("size", *PARTS, "mean step", "whole allreduce")
    rows = [(bar.label, *(text.milliseconds(size["parts_ms"][part]) for part in PARTS), bar.value,
             text.milliseconds(size["allreduce_ms"])) for bar, size in zip(bars, sizes, strict=True)]  # fmt: skip
    said = " ".join(f"{bar.label}: {', '.join(segment.text for segment in bar.segments)}." for bar in bars)
    return (Bars(f"{prefix}-parts", "Parts of a mean step", said, bars, PARTS, header, rows),)


def _bar(size: Size, longest: float) -> Any:
    parts = {part: (size["parts_ms"][part], text.milliseconds(size["parts_ms"][part])) for part in PARTS}
    return stack(_name(size), text.milliseconds(sum(size["parts_ms"].values())), parts, longest)


def _largest(study: Content) -> list[Breakdown]:
    """Where the time went on most workers, by framework."""
    found = []
    for framework in study["settings"]["frameworks"]:
        sizes = done(study, framework)
        if sizes:
            baseline = next((size for size in sizes if size["workers"] == study["settings"]["baseline"]), None)
            found.append(breakdown(study, max(sizes, key=lambda size: size["workers"]), baseline))
    return found


def breakdown(study: Content, size: Size, baseline: Size | None) -> Breakdown:
    """Where the steps of a size went."""
    settings, first = study["settings"], size["repeats"][0]
    return Breakdown(
        who=_name(size),
        workers=size["workers"],
        hosts=len(first["hosts"]),
        efficiency=size["efficiency"],
        against=f"against {text.workers(size['baseline_workers'])}" if size["baseline_workers"] else "",
        parts=StepParts(**size["parts_ms"]),
        batch_per_worker=settings["batch_per_gpu"],
        global_batch=first["images_per_step"],
        images_per_second=size["images_per_second"],
        data=settings["data"],
        gradient_bytes=first["gradient_bytes"],
        allreduce_ms=size["allreduce_ms"],
        baseline_compute_ms=baseline["parts_ms"]["compute"] if baseline and baseline is not size else None,
        slowest=slowest_rank(size),
    )


def slowest_rank(size: Size) -> SlowestRank:
    """The rank that computes longest, by the mean of the repeats."""
    ranks = [rank for repeat in size["repeats"] for rank in repeat["ranks"]]
    repeats = Counter(rank["rank"] for rank in ranks)
    compute = {rank: 0.0 for rank in repeats}
    for rank in ranks:
        compute[rank["rank"]] += rank["compute_ms"] / repeats[rank["rank"]]
    slowest = max(compute, key=lambda rank: compute[rank])
    host = next(rank["host"] for rank in ranks if rank["rank"] == slowest)
    return SlowestRank(slowest, host, compute[slowest], median(compute.values()))


def _failed(study: Content) -> tuple[object, ...]:
    sizes = [size for size in study["sizes"] if size["status"] != "done"]
    if not sizes:
        return ()
    rows = [(size["framework"], f"{size['workers']:,}", size["status"], size["error"] or "not measured yet") for size in sizes]
    header = ("framework", "workers", "status", "cause")
    again = Text("The same command measures what is missing and keeps the rest.")
    return Table("Sizes that failed or are still to come", header, tuple(rows), text_columns=4), again


def _conditions(study: Content) -> tuple[object, ...]:
    settings = study["settings"]
    said = (
        f"Median of {settings['repeats']} repeats; a step is as long as on its slowest rank. Efficiency is images per second a "
        f"worker over the same on {text.workers(settings['baseline'])}."
    )
    environment = (environment_table(study["environment"]),) if study["environment"] else ()
    return (Text(said), Code(study["command"]), *environment)
