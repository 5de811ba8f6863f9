"""`lbsgd eval`: the error of a checkpoint, in the framework that made it or in the other one."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lbsgd.commands.options import FRAMEWORK, POSITIVE, reading_options, runs_option
from lbsgd.commands.ranks import Ranks, leave_to_ranks, ranks_options


@click.command("eval")
@click.argument("checkpoint", metavar="RUN|CHECKPOINT|latest")
@runs_option
@click.option("--data", metavar="DIR", help="Data set.  [default: the run's]")
@click.option("--framework", type=FRAMEWORK, help="Framework that evaluates it.  [default: the one that wrote it]")
@click.option("--batch-per-gpu", type=POSITIVE, help="Images that each rank evaluates at a time.  [default: the recipe's]")
@ranks_options
@reading_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
@click.pass_context
def evaluate(
    ctx: click.Context,
    /,
    ranks: Ranks,
    checkpoint: str,
    runs: Path,
    data: str | None,
    framework: str | None,
    batch_per_gpu: int | None,
    as_json: bool,
    **reading: Any,
) -> None:
    """Evaluate a checkpoint on every validation image, each exactly once.

    Give a checkpoint, or a run for its last checkpoint. Run it by itself, with --np N, or under a launcher: the ranks share
    the images.
    """
    from lbsgd.ranks.failure import leave_together
    from lbsgd.ranks.world import connect

    leave_to_ranks(ctx, ranks)
    world = connect()
    counting = None
    try:
        counting = _prepare(world, checkpoint, runs, data, framework, batch_per_gpu, **reading)
        report = counting()
    except Exception as error:
        leave_together(world, error, None, begun=counting is not None)
    if world.is_first:
        text = f"top-1 error {100 * report['top1_error']:.2f} %, loss {report['loss']:.4f}"
        where = f"{report['samples']:,} validation images of {report['data']}; {report['checkpoint']}"
        click.echo(json.dumps(report, indent=2) if as_json else f"{text} on {where}")


def _prepare(
    world, checkpoint, runs, data, framework, batch_per_gpu, *, data_threads, read_timeout, bad_samples
) -> Callable[[], dict[str, Any]]:
    """Everything up to the first image; what fails on one rank fails on all. Gives what counts the errors and reports."""
    from lbsgd.backends import ReplicaSpec, load
    from lbsgd.data import open_dataset
    from lbsgd.data.bad_samples import BadSamplePolicy, BadSamples
    from lbsgd.data.batch import Reading
    from lbsgd.errors import CheckpointError
    from lbsgd.policy.recipe import load_recipe
    from lbsgd.ranks.agreement import in_turns, together
    from lbsgd.training.evaluation import evaluate
    from lbsgd.training.resuming import find_resumed, read_checkpoint

    made = read_checkpoint(world, together(world, lambda: find_resumed(checkpoint, runs)))
    size = [] if batch_per_gpu is None else [f"batch_per_worker={batch_per_gpu}"]
    recipe = together(world, lambda: load_recipe(made.about["recipe"], size))
    data = data or together(world, made.recorded_data)
    dataset = in_turns(world, lambda: open_dataset(data))
    policy = together(world, lambda: BadSamplePolicy.parse(bad_samples))
    classes = tuple(dataset.validation.classes)
    if classes != tuple(made.about["classes"]):
        raise CheckpointError(
            f"{made.path} was trained on {len(made.about['classes'])} classes, {data} has {len(classes)} or other ones"
        )
    spec = ReplicaSpec(recipe=recipe, classes=len(classes), world=world)
    backend = together(world, lambda: load(framework or made.about["framework"], spec))
    together(world, lambda: made.hand_over(backend))
    backend.broadcast()
    about = {
        "checkpoint": str(made.path),
        "epoch": made.about["epoch"],
        "framework": backend.framework,
        "data": data,
        "workers": world.size,
    }

    def count() -> dict[str, Any]:
        reading = Reading(data_threads or spec.threads, read_timeout, policy)
        result = evaluate(backend, dataset.validation, recipe, world, reading, BadSamples(policy))
        return asdict(result) | about

    return count
