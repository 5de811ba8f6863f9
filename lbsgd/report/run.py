"""What the report says of one training run."""

from dataclasses import dataclass
from typing import Any

from lbsgd.measuring.step_parts import StepParts
from lbsgd.record.run_content import RunContent, Scaling, Throughput, seconds_of
from lbsgd.record.run_record import flatten
from lbsgd.report import text
from lbsgd.report.advice import Breakdown, advise
from lbsgd.report.blocks import Code, Grid, Headline, Headlines, Section, Table, Text
from lbsgd.report.chart import Bars, stack
from lbsgd.report.training_charts import training_charts

Line = dict[str, Any]

MOST_BAD_SAMPLES = 50


@dataclass(frozen=True)
class RecordedRun:
    """content: of run.json. metrics: the lines of metrics.jsonl."""

    content: RunContent
    metrics: list[Line]

    def lines(self, kind: str) -> list[Line]:
        return [line for line in self.metrics if line["kind"] == kind]


def summary(record: RunContent) -> tuple[str, ...]:
    """What was run, in a few words each."""
    world, schedule, recipe = record["world"], record["schedule"], record["recipe"]
    batch = f"global batch {schedule['global_batch']:,} = {world['virtual_workers']:,} × {recipe['batch_per_worker']:,}"
    count = text.workers(world["size"])
    hosts = f" on {len(world['hosts']):,} hosts" if len(world["hosts"]) > 1 else ""
    return (recipe["model"], record["framework"], count + hosts, batch, recipe["precision"], record["data"])


def blocks(run: RecordedRun) -> tuple[object, ...]:
    """What is read first: how it ended, and the figures."""
    record = run.content
    ended = [Text(record["error"], warning=True)] if record["error"] else []
    return (*ended, Headlines(tuple(_headlines(run))))


def _headlines(run: RecordedRun) -> list[Headline]:
    record = run.content
    rate, step = _speed_headlines(record["throughput"])
    return [
        _error_headline(run),
        rate,
        *_efficiency(record),
        *_noise_scale(record),
        *_against_baseline(record),
        step,
        Headline("Time", text.seconds(seconds_of(record)), _times(record)),
    ]


def _speed_headlines(speed: Throughput | None) -> tuple[Headline, ...]:
    """Images per second, and the median step."""
    if speed is None:
        return tuple(Headline(name, text.UNKNOWN, "not measured") for name in ("Images per second", "Median step"))
    steps, per_worker = speed["step_ms"], text.rate(speed["images_per_second_per_worker"])
    spread = f"90 % within {text.milliseconds(steps['p90'])}, 99 % within {text.milliseconds(steps['p99'])}"
    return (
        Headline("Images per second", text.rate(speed["images_per_second"]), f"{per_worker} per worker"),
        Headline("Median step", text.milliseconds(steps["p50"]), spread),
    )


def _error_headline(run: RecordedRun) -> Headline:
    final = run.content["final"]
    if final:
        median = text.error(final.get("top1_error_median_of_final_epochs"))
        return Headline("Top-1 error", text.error(final["top1_error"]), f"median of the final five epochs: {median}")
    evaluations = run.lines("eval")
    if not evaluations:
        return Headline("Top-1 error", text.UNKNOWN, "not evaluated yet")
    last = evaluations[-1]
    return Headline("Top-1 error", text.error(last["top1_error"]), f"so far, after epoch {text.number(last['epoch'])}")


def _efficiency(record: RunContent) -> list[Headline]:
    """What a run of several workers says of its scaling; one worker has nothing to scale."""
    if record["world"]["size"] == 1:
        return []
    scaling = record["scaling"]
    if not scaling or scaling["efficiency"] is None:
        return [Headline("Scaling efficiency", text.UNKNOWN, "not measured")]
    return [Headline("Scaling efficiency", text.percent(scaling["efficiency"]), _alone(scaling))]


def _noise_scale(record: RunContent) -> list[Headline]:
    """What the gradients' noise says of the global batch."""
    noise = record.get("noise_scale")
    if not noise or noise["images"] is None or noise["samples_factor"] is None:
        return []
    batch, factor = record["schedule"]["global_batch"], noise["samples_factor"]
    note = f"images; a global batch of {batch:,} takes {factor:.3g} times the images of a tiny one"
    return [Headline("Gradient noise scale", text.number(round(noise["images"])), note)]


def _alone(scaling: Scaling) -> str:
    """Against what, and how far it can be trusted; older records do not say that."""
    alone = f"{text.workers(scaling['workers'])}, each against itself alone"
    interval = scaling.get("interval")
    if not interval:
        return alone
    low, high = map(text.percent, interval)
    return f"{alone}; 95 % interval {low} to {high}, {scaling['pairs']} measured steps"


def _against_baseline(record: RunContent) -> list[Headline]:
    scaling = record.get("scaling_baseline")
    if not scaling:
        return []
    note = f"{text.workers(scaling['workers'])} against {scaling['baseline_workers']:,} of {scaling['baseline_run']}"
    return [Headline("Against baseline", text.percent(scaling["efficiency"]), note)]


def _times(record: RunContent) -> str:
    attempts = record["attempts"]
    if not attempts:
        return "not started"
    started = text.moment(attempts[0]["started"])
    return f"from {started}" + (f", {len(attempts)} attempts" if len(attempts) > 1 else "")


def results(run: RecordedRun, prefix: str, detail: int) -> tuple[Section, ...]:
    """prefix: of the sections' ids. detail: most rows of a chart's table; a curve has ten times as many points at most."""
    return _filled(_training(run, prefix, detail), _time(run, prefix))


def circumstances(run: RecordedRun, prefix: str) -> tuple[Section, ...]:
    """What was asked for, what came in between and where it ran."""
    return _filled(_schedule(run, prefix), _attempts(run, prefix), _bad_samples(run, prefix), _environment(run, prefix))


def _filled(*sections: Section) -> tuple[Section, ...]:
    return tuple(section for section in sections if section.blocks)


def _training(run: RecordedRun, prefix: str, detail: int) -> Section:
    charts = training_charts(run.lines, f"{prefix}-chart", detail)
    return Section(f"{prefix}-training", "Training", (Grid(tuple(charts)),) if charts else ())


def _time(run: RecordedRun, prefix: str) -> Section:
    found = breakdown(run.content)
    if not found:
        return Section(f"{prefix}-time", "Where the time went")
    rows = [(name, text.milliseconds(ms), text.percent(ms / found.step_ms)) for name, ms in found.parts.measured.items()]
    parts = {
        name: (ms, f"{text.milliseconds(ms)}, {text.percent(ms / found.step_ms)}") for name, ms in found.parts.measured.items()
    }
    bar = stack("A mean step", text.milliseconds(found.step_ms), parts, found.step_ms)
    said = ", ".join(f"{name} {share}" for name, _, share in rows)
    bars = Bars(f"{prefix}-split", "Parts of a step", f"Of a mean step: {said}.", [bar], tuple(parts),
                ("part", "time per step", "share"), rows)  # fmt: skip
    return Section(f"{prefix}-time", "Where the time went", (bars, advise(found)))


def breakdown(record: RunContent) -> Breakdown | None:
    """Where the steps of a run went; None when it was not measured."""
    split, speed, scaling = record["time_split"], record["throughput"], record["scaling"]
    if not (split and speed):
        return None
    step = 1000 * record["schedule"]["global_batch"] / speed["images_per_second"]
    size = record["world"]["size"]
    return Breakdown(
        who=f"{record['framework']} on {text.workers(size)}",
        workers=size,
        hosts=len(record["world"]["hosts"]),
        efficiency=scaling["efficiency"] if scaling else None,
        against="against each worker alone",
        parts=StepParts(**split).scaled(step),
        batch_per_worker=record["recipe"]["batch_per_worker"],
        global_batch=record["schedule"]["global_batch"],
        images_per_second=speed["images_per_second"],
        data=record["data"],
    )


def _schedule(run: RecordedRun, prefix: str) -> Section:
    record = run.content
    schedule = record["schedule"]
    recipe = [(key, _plain(value)) for key, value in flatten(record["recipe"]).items()]
    derived = [(key.replace("_", " "), _plain(value)) for key, value in schedule.items()]
    blocks = (
        Table("What follows from the recipe and the number of workers", ("what", "value"), tuple(derived), text_columns=2),
        Table(
            f"The recipe {record['recipe']['name']}, every value", ("key", "value"), tuple(recipe), text_columns=2, folded=True
        ),
        Code(record["command"]),
    )
    return Section(f"{prefix}-recipe", "Recipe", blocks)


def _attempts(run: RecordedRun, prefix: str) -> Section:
    names = ("started", "ended", "status", "framework", "command", "error")
    header = (*names, "from iteration", "workers", "images/s", "efficiency")
    rows = [
        (
            text.moment(one["started"]),
            text.moment(one["ended"]),
            one["status"],
            one["framework"],
            one.get("command", text.UNKNOWN),
            one.get("error") or text.UNKNOWN,
            f"{one['start_iteration']:,}",
            f"{one['world_size']:,}",
            text.rate(throughput["images_per_second"] if (throughput := one.get("throughput")) else None),
            text.percent(scaling["efficiency"] if (scaling := one.get("scaling")) else None),
        )
        for one in run.content["attempts"]
    ]
    table = Table("One row a start of the run", header, tuple(rows), text_columns=6)
    return Section(f"{prefix}-attempts", "Attempts", (table,) if rows else ())


def _bad_samples(run: RecordedRun, prefix: str) -> Section:
    lines = run.lines("bad_sample")
    if not lines:
        return Section(f"{prefix}-bad", "Unreadable images")
    counts = run.content.get("bad_samples") or {}
    shown = f"{len(lines):,} found" if len(lines) <= MOST_BAD_SAMPLES else f"the first {MOST_BAD_SAMPLES} of {len(lines):,}"
    caption = f"Images that could not be read: {shown}; policy {counts.get('policy', 'replace')}"
    rows = [(line["name"], line["reason"], line["split"], f"{line['sample']:,}") for line in lines[:MOST_BAD_SAMPLES]]
    table = Table(caption, ("image", "reason", "split", "sample"), tuple(rows), text_columns=3)
    return Section(f"{prefix}-bad", "Unreadable images", (table,))


def _environment(run: RecordedRun, prefix: str) -> Section:
    return Section(f"{prefix}-environment", "Environment", (environment_table(run.content["environment"]),))


def environment_table(environment: dict[str, Any]) -> Table:
    """All that is recorded of the machine and the software."""
    rows = tuple((key, _plain(value)) for key, value in flatten(environment).items())
    return Table("Machine and software", ("key", "value"), rows, text_columns=2, folded=True)


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: text.UNKNOWN}[value]
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return text.number(value) if isinstance(value, int | float) else str(value)
