"""`lbsgd bench --gpus`: the command line of a scaling study, as the one that starts its jobs or as a rank of one."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lbsgd.commands.options import FRAMEWORK, POSITIVE, recipe_options, resolve_recipe, runs_option
from lbsgd.commands.ranks import interface_option
from lbsgd.errors import LbsgdError, TargetMissed, UsageError


class CommaSeparated(click.ParamType):
    """Different values of one type, "8,64,256"."""

    def __init__(self, item: click.ParamType) -> None:
        self.item, self.name = item, f"{item.name} list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple:
        if isinstance(value, tuple):
            return value
        items = tuple(self.item.convert(part.strip(), param, ctx) for part in value.split(","))
        if len(set(items)) < len(items):
            self.fail(f"{value!r} has the same value twice", param, ctx)
        return items


class StudyIncomplete(LbsgdError):
    """Some sizes of a study have no result."""

    exit_code = 3


OPTIONS = (
    click.option("--gpus", type=CommaSeparated(POSITIVE), metavar="N,N,...", help="Numbers of workers, one per GPU (or core)."),
    click.option(
        "--framework",
        "frameworks",
        type=CommaSeparated(FRAMEWORK),
        metavar="torch,tensorflow",
        default="torch",
        show_default=True,
        help="Framework that executes the steps; several are measured one after the other.",
    ),
    recipe_options,
    click.option("--data", metavar="DIR", help="The data set.  [default: synthetic images of the recipe's size]"),
    click.option("--repeats", type=POSITIVE, default=3, show_default=True, help="Rounds per size."),
    click.option("--steps", type=POSITIVE, help="Steps per round.  [default: what takes 5 seconds, 5 to 100]"),
    click.option("--warm-up", type=POSITIVE, default=5, show_default=True, help="Steps before the first round."),
    click.option("--baseline", type=POSITIVE, help="Number of workers to which the efficiency refers.  [default: the fewest]"),
    click.option("--hosts", "-H", metavar="HOST:SLOTS,...", help="Hosts to use."),
    click.option(
        "--hostfile", type=click.Path(path_type=Path, dir_okay=False), help="File with one host per line: HOST slots=N."
    ),
    interface_option,
    click.option(
        "--oversubscribe", is_flag=True, help="Allow more workers than slots; the result is marked as not a scaling figure."
    ),
    click.option(
        "--require-efficiency",
        type=click.FloatRange(0, 2, min_open=True),
        metavar="SHARE",
        help="Exit with code 6 if any size is below this efficiency, such as 0.9.",
    ),
    click.option("--new", is_flag=True, help="Start over even if there is an unfinished study with these settings."),
    runs_option,
    click.option("--json", "as_json", is_flag=True, help="Print bench.json on standard output."),
)


def bench_scaling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `run_scaling` takes."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def run_scaling(
    *,
    gpus: tuple[int, ...] | None,
    runs: Path,
    new: bool,
    require_efficiency: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Run the study that the options ask for, or resume it, and report it.

    Raises UsageError, EnvironmentNotReady, Interrupted, StudyIncomplete, TargetMissed.
    """
    from lbsgd.measuring.study import Study, unfinished_study
    from lbsgd.measuring.study_jobs import MpirunJobs
    from lbsgd.record.runs_folder import new_folder

    if not gpus:
        raise UsageError("give the numbers of workers to measure, e.g. --gpus 1,2,4 (or name a command: input, allreduce)")

    def say(text: str) -> None:
        click.echo(text, err=True)

    settings, allocation = _settings(gpus, **options)
    study = None if new else unfinished_study(runs, settings, say)
    verb = "resuming" if study else "recording in"
    study = study or Study.create(new_folder(runs, "bench"), settings, shlex.join(["lbsgd", *sys.argv[1:]]))
    say(f"{verb} {study.folder}")
    with study.alone():
        try:
            study.run(MpirunJobs(settings, allocation), say)
        except BaseException:
            study.end("interrupted")
            raise
        _write_reports(study.folder, study.content)
    _show(study, as_json)
    _require(study.content, require_efficiency)


def _settings(gpus: tuple[int, ...], frameworks, data, hosts, hostfile, interface, oversubscribe, baseline, **options: Any):
    """What to measure, and the hosts to measure it on."""
    from lbsgd.launch.hosts import find_allocation, host_list, require
    from lbsgd.launch.mpirun import require_mpirun
    from lbsgd.measuring.study import Settings
    from lbsgd.models import require_framework

    measured = {name: options.pop(name) for name in ("repeats", "steps", "warm_up")}
    recipe = resolve_recipe(**options)
    for framework in frameworks:
        require_framework(recipe.model, framework)
    allocation = find_allocation(os.environ, hosts=hosts, hostfile=hostfile)
    if not oversubscribe:
        require(allocation, max(gpus))
    if baseline is not None and baseline not in gpus:
        raise UsageError(f"--baseline {baseline} is not among --gpus {','.join(map(str, gpus))}; add it there")
    require_mpirun()
    settings = Settings(
        gpus=gpus,
        frameworks=frameworks,
        recipe=recipe.model_dump(mode="json"),
        data=data or f"synthetic:size={recipe.images.size}",
        oversubscribed=max(gpus) > allocation.total,
        hosts=None if allocation.is_local else host_list(allocation.first(max(gpus))),
        interface=interface,
        baseline=baseline or min(gpus),
        threads_per_worker=_threads_per_worker(allocation, gpus),
        **measured,
    )
    return settings, allocation


def _threads_per_worker(allocation, gpus: tuple[int, ...]) -> int | None:
    """Without GPUs every worker of every size gets the same share of the cores, or the fewest workers would get the most."""
    if allocation.of == "GPUs":
        return None
    if os.environ.get("OMP_NUM_THREADS", "").isdecimal():
        return int(os.environ["OMP_NUM_THREADS"])
    fullest = min(max(gpus), max(allocation.slots.values()))
    return max(1, len(os.sched_getaffinity(0)) // fullest)


def _write_reports(folder: Path, content: dict[str, Any]) -> None:
    from lbsgd.measuring.study_tables import as_csv, as_markdown
    from lbsgd.record.atomic import write_atomically

    write_atomically(folder / "bench.csv", as_csv(content).encode())
    write_atomically(folder / "bench.md", as_markdown(content).encode())
    try:
        from lbsgd.measuring.study_plot import plot

        plot(content, folder / "bench.png")
    except ImportError:
        click.echo("no plot: pip install 'lbsgd[report]'", err=True)


def _show(study, as_json: bool) -> None:
    from lbsgd.commands.study_table import as_text

    click.echo(json.dumps(study.content, indent=2) if as_json else as_text(study.content))
    click.echo(f"{study.folder}: {', '.join(sorted(file.name for file in study.folder.glob('bench.*')))}", err=True)


def _require(content: dict[str, Any], least: float | None) -> None:
    failed = [size for size in content["sizes"] if size["status"] == "failed"]
    if failed:
        names = ", ".join(f"{size['framework']} with {size['workers']}" for size in failed)
        raise StudyIncomplete(f"no figure for {names}: {failed[0]['error']}; the same command retries only these")
    below = [size for size in content["sizes"] if least is not None and size["efficiency"] < least]
    if below:
        found = ", ".join(
            f"{100 * size['efficiency']:.1f} % ({size['framework']}, {size['workers']} workers)" for size in below
        )
        raise TargetMissed(f"--require-efficiency {least:g} is missed: {found}")


@click.command("rank", hidden=True)
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--framework", type=FRAMEWORK, required=True, help="Framework that executes the steps.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="File to which rank 0 writes the measurements.")
def bench_rank(study: Path, framework: str, output: Path) -> None:
    """Run as one rank of a study; `lbsgd bench` starts it."""
    from lbsgd.measuring.study_jobs import measure_as_rank
    from lbsgd.ranks.failure import leave_together
    from lbsgd.ranks.world import connect
    from lbsgd.record.atomic import write_json

    world = connect()
    try:
        measured = measure_as_rank(world, study, framework)
        if world.is_first:
            write_json(output, measured)
    except Exception as error:
        leave_together(world, error, None)
