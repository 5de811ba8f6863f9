"""`lbsgd plan`: what a training run would do, without data, framework or ranks.

Every number comes from lbsgd.policy.plan and lbsgd.policy.schedule, as in `lbsgd train`. A time is always a prediction
from a recorded run of the same kind, which it names.
"""

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from lbsgd.commands.options import (
    POSITIVE,
    data_option,
    framework_option,
    recipe_options,
    resolve_recipe,
    run_options,
    runs_option,
)
from lbsgd.commands.plan_table import plan_table
from lbsgd.commands.ranks import RankCount, Ranks, hosts_options
from lbsgd.commands.train import train
from lbsgd.errors import EnvironmentNotReady, UsageError

if TYPE_CHECKING:
    from lbsgd.policy.plan import Plan
    from lbsgd.record.run_content import RunContent

SCHEMA = "lbsgd.plan/1"
BLUE = "#1f5fa8"


class Prediction(NamedTuple):
    """Seconds of training, without evaluation, at the speed that run `run` had on each of its `workers`."""

    seconds: float
    run: str
    workers: int
    images_per_second_per_worker: float


def accept_training_options(command: click.Command) -> click.Command:
    """Let `command` take, and ignore, the options of `lbsgd train` that change nothing of a plan.

    --resume would change it: the recipe is then the checkpoint's.
    """
    own = {parameter.name for parameter in command.params} | {"resume"}
    for parameter in train.params:
        if isinstance(parameter, click.Option) and parameter.name not in own:
            ignored = copy.copy(parameter)
            ignored.hidden, ignored.expose_value = True, False
            command.params.append(ignored)
    return command


@accept_training_options
@click.command()
@framework_option(required=False, help="Framework of the recorded run from which the time is predicted.")
@data_option(required=False, help="Data set whose samples and classes are counted.")
@click.option("--samples", type=POSITIVE, help="Number of training images, instead of --data.")
@click.option(
    "--classes",
    type=POSITIVE,
    default=1000,
    show_default=True,
    help="Number of classes, if --data is not given.",
)
@click.option(
    "--np", "-np", "np", type=RankCount(), metavar="N|auto", help="Number of ranks; auto: one per slot.  [default: 1]"
)
@hosts_options
@recipe_options
@run_options
@runs_option
@click.option(
    "--plot",
    metavar="FILE.png",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Plot the learning rate over the epochs to this file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with the rate of every iteration.")
def plan(
    framework: str | None,
    data: str | None,
    samples: int | None,
    classes: int,
    ranks: Ranks,
    accumulate: int | None,
    max_steps: int | None,
    runs: Path,
    plot: Path | None,
    as_json: bool,
    **recipe_values: Any,
) -> None:
    """Show what a run would do: every derived number, the rule behind it, and warnings.

    All options of `lbsgd train` except --resume are accepted; those that are not listed here do not change the plan.
    """
    from lbsgd.policy.plan import make_plan

    recipe = resolve_recipe(**recipe_values)
    samples, classes = _count(data, samples, classes)
    planned = make_plan(recipe, world_size=_count_ranks(ranks), accumulate=accumulate or 1, samples=samples, classes=classes)
    steps = min(max_steps or planned.total_iterations, planned.total_iterations)
    prediction = predict(planned, steps, framework, runs)
    if plot:
        draw(planned, steps, plot)
        click.echo(f"Learning rate drawn in {plot}", err=True)
    if as_json:
        click.echo(json.dumps(_as_json(planned, steps, prediction), indent=2))
        return
    click.echo(plan_table(planned))
    if steps < planned.total_iterations:
        click.echo(f"the run ends after {steps} iterations, as --max-steps says; the schedule does not change")
    click.echo(f"time {_time(prediction)}")


def _count_ranks(ranks: Ranks) -> int:
    """As many as `lbsgd train` would start; the hosts need not be there yet."""
    if isinstance(ranks.np, int):
        return ranks.np
    return ranks.allocation().total if ranks.are_asked_for else 1


def _count(data: str | None, samples: int | None, classes: int) -> tuple[int, int]:
    """The numbers of training images and of classes."""
    if samples is not None and data is None:
        return samples, classes
    if data is None or samples is not None:
        raise UsageError("give either --samples N or --data DIR: the number of training images decides the iterations")
    from lbsgd.data import open_dataset

    train = open_dataset(data).train
    return len(train), len(train.classes)


def predict(planned: "Plan", steps: int, framework: str | None, runs: Path) -> Prediction | None:
    """The time by the latest run under `runs` of the same framework, model, batch per worker and precision.

    A run on the same number of workers goes before a later one on another number. None without such a run.
    """
    matching = [
        (record["id"], record["world"]["size"], throughput["images_per_second_per_worker"])
        for record in _records(runs)
        if (throughput := record.get("throughput")) and _matches(record, planned, framework)
    ]
    if not matching:
        return None
    same_size = [one for one in matching if one[1] == planned.world_size]
    run, workers, speed = (same_size or matching)[-1]
    return Prediction(steps * planned.global_batch / (speed * planned.world_size), run, workers, speed)


def _records(runs: Path) -> "list[RunContent]":
    """The runs under `runs` that can be read, in the order in which they were started."""
    from lbsgd.record.run_record import read_run
    from lbsgd.record.runs_folder import RUN_FILE, recorded

    records = []
    for folder in recorded(runs, RUN_FILE):
        try:
            records.append(read_run(folder))
        except UsageError:  # a record of another version predicts nothing
            continue
    return records


def _matches(record: "RunContent", planned: "Plan", framework: str | None) -> bool:
    recipe = planned.recipe
    return (
        record["framework"] == framework
        and all(record["recipe"][key] == getattr(recipe, key) for key in ("model", "batch_per_worker"))
        and recipe.precision in ("auto", record["recipe"]["precision"])
    )


def _time(prediction: Prediction | None) -> str:
    if prediction is None:
        return "not known: no matching run recorded"
    speed = prediction.images_per_second_per_worker
    return (
        f"{_readable(prediction.seconds)}: a prediction from run {prediction.run}, where each of "
        f"{prediction.workers} workers took {speed:,.0f} images/s; training only"
    )


def _readable(seconds: float) -> str:
    unit, name = next(((u, n) for u, n in ((86400, "days"), (3600, "h"), (60, "min")) if seconds >= u), (1, "s"))
    return f"{seconds / unit:.3g} {name}"


def _as_json(planned: "Plan", steps: int, prediction: Prediction | None) -> dict[str, Any]:
    schedule = planned.schedule
    points = zip(schedule.decay_points, schedule.levels[1:], strict=True)
    return {
        "schema": SCHEMA,
        "k": planned.k,
        "n": planned.n,
        "global_batch": planned.global_batch,
        "world_size": planned.world_size,
        "accumulate": planned.accumulate,
        "samples": planned.samples,
        "samples_left_over": planned.samples_left_over,
        "epochs": planned.recipe.epochs,
        "iterations_per_epoch": planned.iterations_per_epoch,
        "total_iterations": planned.total_iterations,
        "steps": steps,
        "reference_lr": schedule.reference_lr,
        "peak_lr": schedule.peak_lr,
        "warmup": schedule.warmup,
        "warmup_iterations": schedule.warmup_iterations,
        "decay": {
            "kind": schedule.decay,
            "points": [
                {"iteration": point, "epoch": point / schedule.iterations_per_epoch, "lr": level} for point, level in points
            ],
        },
        "parameters": planned.parameters,
        "gradient_bytes": planned.gradient_bytes,
        "state_bytes": planned.state_bytes,
        "time": prediction and prediction._asdict(),
        "warnings": list(planned.warnings),
        "recipe": planned.recipe.model_dump(mode="json"),
        "lr": [schedule.lr(iteration) for iteration in range(steps)],
    }


def draw(planned: "Plan", steps: int, path: Path) -> None:
    """Draw the learning rate over the epochs to an image file; what lies behind the last of `steps` is pale.

    Raises EnvironmentNotReady without matplotlib, UsageError when the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentNotReady("--plot needs matplotlib; pip install 'lbsgd[report]'") from error

    figure = Figure(figsize=(9, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    _draw_curve(axes, planned, steps)
    _annotate(axes, planned)
    recipe, batch = planned.recipe, f"global batch {planned.global_batch} = {planned.k} x {planned.n}"
    axes.set_title(f"{recipe.name}: {recipe.model}, {batch}", loc="left")
    axes.set(xlabel="epoch", ylabel="learning rate", xlim=(0, recipe.epochs))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y", color="#e4e4e4")
    axes.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot draw to {path}: {getattr(error, 'strerror', None) or error}") from error


def _draw_curve(axes: Any, planned: "Plan", steps: int) -> None:
    schedule = planned.schedule
    rates = [schedule.lr(iteration) for iteration in range(schedule.total_iterations)]
    epochs = [iteration / schedule.iterations_per_epoch for iteration in range(schedule.total_iterations)]
    axes.plot(epochs[:steps], rates[:steps], color=BLUE, linewidth=2)
    axes.plot(epochs[steps:], rates[steps:], color=BLUE, linewidth=2, alpha=0.25)
    if schedule.decay == "steps":
        axes.set_yscale("log")
        axes.margins(y=0.15)
    else:
        axes.set_ylim(0, 1.15 * max(rates))


def _annotate(axes: Any, planned: "Plan") -> None:
    """Shade the warm-up; mark its end and the points of the decay, each with the rate from there on."""
    schedule = planned.schedule
    each, warmup = schedule.iterations_per_epoch, schedule.warmup_iterations
    axes.axvspan(0, warmup / each, color="#f2b134", alpha=0.18, linewidth=0)
    near = {"textcoords": "offset points", "fontsize": 9, "color": "#333333"}
    for point in {warmup, *schedule.decay_points}:
        if point < schedule.total_iterations:
            place = (point / each, schedule.lr(point))
            what = "warm-up ends, " if 0 < point == warmup else ""
            axes.plot(*place, "o", color=BLUE, markersize=4)
            axes.annotate(f"{what}epoch {place[0]:g}\nlr {place[1]:g}", place, (6, 5), **near)
