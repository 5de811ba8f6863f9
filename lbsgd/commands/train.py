"""`lbsgd train`: the command line of a training run, as one rank of it or as the one that starts the ranks."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lbsgd.commands.options import (
    POSITIVE,
    data_option,
    framework_option,
    reading_options,
    recipe_options,
    resolve_recipe,
    run_options,
    runs_option,
)
from lbsgd.commands.ranks import Ranks, leave_to_ranks, ranks_options
from lbsgd.errors import UsageError

DEFAULT_DATA = "synthetic"


class EfficiencyEvery(click.ParamType):
    """0, or 2 and more: a measured step is compared with the ordinary ones next to it."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = click.IntRange(min=0).convert(value, param, ctx)
        if number == 1:
            self.fail("1 leaves no ordinary step to compare with; give 2 or more, or 0 to measure nothing", param, ctx)
        return number


@click.command()
@framework_option(required=True, help="Framework that executes the steps.")
@data_option(
    required=False,
    help="Folder with train/<class>/* and val/<class>/*, or `synthetic`.  [default: synthetic, to measure speed]",
)
@recipe_options
@run_options
@ranks_options
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of this run.  [default: RUNS/<utc>-<name>]",
)
@runs_option
@click.option(
    "--resume",
    metavar="RUN|CHECKPOINT|latest",
    help="Resume from a run's last checkpoint, or from this checkpoint.",
)
@click.option("--accept-other-data", is_flag=True, help="Resume on other images than the checkpoint was trained on.")
@click.option("--keep-checkpoints", type=POSITIVE, default=5, show_default=True, help="Number of newest checkpoints to keep.")
@click.option(
    "--efficiency-every",
    type=EfficiencyEvery(),
    default=50,
    show_default=True,
    metavar="N",
    help="Measure the scaling efficiency at every N-th iteration, more often at first; 0: do not measure it.",
)
@click.option(
    "--baseline",
    metavar="RUN",
    help="Run of fewer workers to compare the speed with.  [default: the newest `lbsgd bench` of this kind, if any]",
)
@click.option("--log-to", metavar="tensorboard,mlflow", default="", help="Also send the metrics to these loggers.")
@reading_options
@click.option(
    "--channels-last/--no-channels-last",
    default=True,
    show_default=True,
    help="Memory layout of images and weights in PyTorch; TensorFlow always uses channels-last.",
)
@click.option(
    "--compile",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="Compile the network with torch.compile; auto: only on a GPU. TensorFlow always compiles a graph.",
)
@click.option("--deterministic", is_flag=True, help="Use deterministic algorithms, so that runs repeat bitwise on a GPU too.")
@click.option(
    "--profile",
    metavar="[N:M]",
    is_flag=False,
    flag_value="auto",
    help="Profile iterations N to M - 1 on rank 0.  [without a value: 10 iterations, after the first 10]",
)
@click.pass_context
def train(ctx: click.Context, /, ranks: Ranks, **options: Any) -> None:
    """Train an image classifier on any number of workers.

    Run it under horovodrun, mpirun or srun, by itself, or with --np N, which starts the ranks.

    \b
      horovodrun -np 256 lbsgd train --framework torch --data /data/imagenet
      lbsgd train --framework tensorflow --np 2 --recipe demo --data digits
    """
    if options["framework"] == "tensorflow" and options["compile"] != "auto":
        raise UsageError(f"--compile {options['compile']} is for --framework torch; TensorFlow always compiles a graph")
    if options["profile"]:
        allow_profile(options["profile"])
    leave_to_ranks(ctx, ranks)
    recipe_given = ctx.get_parameter_source("recipe") is not ParameterSource.DEFAULT
    run_as_rank(recipe_given, **options)


def allow_profile(window: str) -> None:
    """Refuse a window that is none, and make Horovod ready for its timeline, which it must be told before it starts.

    Raises UsageError.
    """
    import os

    from lbsgd.profiling.window import parse_window

    parse_window(window)
    if os.environ.setdefault("HOROVOD_TIMELINE", "DYNAMIC") != "DYNAMIC":
        raise UsageError("HOROVOD_TIMELINE is set, and --profile records the timeline too; unset it or leave --profile out")


def run_as_rank(recipe_given: bool, **options: Any) -> None:
    """Be one rank of the run, from MPI's start to its end."""
    from lbsgd.ranks.failure import leave_together
    from lbsgd.ranks.world import connect
    from lbsgd.training.startup import MPI, Startup

    startup = Startup()
    startup.imported()
    with startup.part(MPI, "starting MPI"):
        world = connect()
    record = None
    try:
        run = _prepare(world, startup, recipe_given, **options)
        if run is None:
            return
        record = world.broadcast(run.record.folder if run.record else None)
        _train(run)
    except Exception as error:
        leave_together(world, error, record)


def _prepare(
    world, startup, recipe_given: bool, *, framework, data, resume, run_dir, runs, bad_samples, log_to, baseline, **options: Any
):
    from lbsgd.commands.plan_table import plan_table
    from lbsgd.data.bad_samples import BadSamplePolicy
    from lbsgd.measuring.baseline import named_baseline
    from lbsgd.ranks.agreement import together
    from lbsgd.record.loggers import parse_loggers
    from lbsgd.training.preparation import prepare
    from lbsgd.training.resuming import find_resumed, read_checkpoint
    from lbsgd.training.run import Request

    def say(text: str) -> None:
        click.echo(text, err=True)

    if world.is_first:
        startup.say = say

    recipe_flags = {
        name: options.pop(name) for name in ("recipe", "set_values", "model", "batch_per_gpu", "epochs", "precision", "seed")
    }
    resumed = read_checkpoint(world, together(world, lambda: find_resumed(resume, runs))) if resume else None
    if resumed and not recipe_given:
        recipe_flags["recipe"] = resumed.about["recipe"]
    recipe = together(world, lambda: resolve_recipe(**recipe_flags))
    if data is None and resumed:
        data = together(world, resumed.recorded_data)
    if data is None and world.is_first:
        say("warning: no --data given: training on synthetic images, which measures speed and learns nothing")
    request = Request(
        framework=framework,
        data=data or DEFAULT_DATA,
        recipe=recipe,
        resume=resumed,
        run_dir=run_dir,
        runs=runs,
        bad_samples=together(world, lambda: BadSamplePolicy.parse(bad_samples)),
        log_to=together(world, lambda: parse_loggers(log_to)),
        baseline=together(world, lambda: named_baseline(baseline, runs) if baseline else None),
        **options,
    )
    run = prepare(world, request, startup, lambda plan: say(plan_table(plan)))
    if run is None and resumed and world.is_first:
        say(f"nothing to do: {resumed.path} is the end of a run that is done; more --epochs would train it longer")
    if run and run.record:
        if recipe.precision == "auto":
            say(f"precision: {run.plan.recipe.precision}, the fastest that the devices of all ranks have")
        say(f"recording in {run.record.folder}")
    return run


def _train(run) -> None:
    from lbsgd.training.loop import train as run_training

    evaluation = run_training(run)
    if run.record:
        click.echo(
            f"done: top-1 error {100 * evaluation.top1_error:.2f} % on {evaluation.samples:,} "
            f"validation images; {run.record.folder / 'run.json'}"
        )
