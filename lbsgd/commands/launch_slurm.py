"""`lbsgd launch slurm`: a batch script for an lbsgd command, shown or submitted."""

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from lbsgd.commands.options import POSITIVE
from lbsgd.commands.ranks import interface_option
from lbsgd.commands.startable import command_argument
from lbsgd.commands.submitted import is_training, print_option, require_submittable, restarts_option
from lbsgd.errors import UsageError

if TYPE_CHECKING:
    from lbsgd.launch.slurm import BatchJob

DIRECTIVES = ("job_name", "gpus_per_node", "time", "partition", "account", "qos", "mem", "constraint")
"""Options that are handed to sbatch as they are."""

FIXED = {"nodes", "ntasks-per-node", "cpus-per-task", "exclusive", "output", "open-mode", "export", "signal", "requeue"}
"""Options of sbatch that the script writes, or that starting again rests on."""


class Gpus(click.ParamType):
    """A number of GPUs, with or without their type."""

    name = "gpus"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"([\w.-]+:)?[1-9]\d*", value):
            self.fail(f"{value!r} is not NUMBER or TYPE:NUMBER, such as 8 or a100:8", param, ctx)
        return value


@click.command("slurm", context_settings={"allow_interspersed_args": False})
@click.option("--nodes", "-N", type=POSITIVE, default=1, show_default=True, help="Number of nodes.")
@click.option("--gpus-per-node", type=Gpus(), metavar="[TYPE:]N", help="GPUs per node.")
@click.option("--tasks-per-node", type=POSITIVE, metavar="N", help="Ranks per node.  [default: one per GPU]")
@click.option("--cpus-per-task", type=POSITIVE, metavar="N", help="Cores per rank, which read the images.")
@click.option("--time", metavar="[D-]HH:MM:SS", help="Time limit of one attempt.  [default: the partition's]")
@click.option("--partition", "-p", metavar="NAME", help="Partition.")
@click.option("--account", "-A", metavar="NAME", help="Account to charge.")
@click.option("--qos", metavar="NAME", help="Quality of service.")
@click.option("--mem", metavar="SIZE", help="Memory per node; 0: all of it.")
@click.option("--constraint", "-C", metavar="FEATURES", help="Features that the nodes must have.")
@click.option("--job-name", "-J", metavar="NAME", default="lbsgd", show_default=True, help="Name of the job.")
@click.option("--exclusive", is_flag=True, help="Do not share the nodes with other jobs.")
@click.option("--sbatch", "more", multiple=True, metavar="KEY[=VALUE]", help="Any other long option of sbatch. Repeatable.")
@click.option(
    "--output",
    "log_dir",
    type=click.Path(file_okay=False),
    default="runs",
    show_default=True,
    help="Folder for the log, slurm-<job>.log.",
)
@click.option(
    "--setup",
    multiple=True,
    metavar="BASH",
    help="Line of bash that sets up the environment, e.g. 'module load openmpi'. Repeatable.  [default: the current PATH]",
)
@click.option(
    "--start",
    type=click.Choice(["mpirun", "srun", "none"]),
    default="mpirun",
    show_default=True,
    help="What starts the ranks. srun needs Slurm and MPI with PMIx; none is for commands that start their own, like bench.",
)
@interface_option
@click.option(
    "--run-dir",
    type=click.Path(file_okay=False),
    help="Folder of the training run; resumed if it has a checkpoint.  [default: runs/slurm-<job>]",
)
@click.option(
    "--requeue/--no-requeue", default=True, show_default=True, help="Requeue the job when it was ended, and resume its run."
)
@click.option(
    "--warn",
    "warning_seconds",
    type=POSITIVE,
    metavar="SECONDS",
    default=180,
    show_default=True,
    help="Time before the limit at which the ranks save and exit; Slurm may be 60 s early.",
)
@restarts_option
@print_option
@click.option("--test-only", is_flag=True, help="Let Slurm check the script and estimate its start, without submitting it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
@command_argument
def slurm(only_print: bool, test_only: bool, as_json: bool, **options: Any) -> None:
    """Submit a command to Slurm, to run over all nodes of the job.

    A training run is saved before the time limit and when the job is preempted; then the job is requeued and resumes it.

    \b
      lbsgd launch slurm --nodes 32 --gpus-per-node 8 --time 4:00:00 -- train --framework torch --data /data/imagenet
      lbsgd launch slurm --nodes 32 --gpus-per-node 8 --start none -- bench --gpus 8,64,256
    """
    from lbsgd.launch.slurm import render, submit

    job = _batch_job(**options)
    script = render(job, os.environ)
    if only_print:
        click.echo(script, nl=False)
    elif test_only:
        click.echo(submit(script, test_only=True))
    else:
        Path(job.log_dir).mkdir(parents=True, exist_ok=True)  # Slurm makes no folders
        _tell(job, submit(script), as_json)


def _tell(job: "BatchJob", number: str, as_json: bool) -> None:
    """Say which job it is and where to look."""
    told = {"job": number, "log": f"{job.log_dir}/slurm-{number}.log", "run": None}
    if is_training(job.command):
        told["run"] = job.run_dir or f"runs/slurm-{number}"
    click.echo(json.dumps(told, indent=2) if as_json else number)
    record = f", recorded in {told['run']}" if told["run"] else ""
    click.echo(f"submitted as job {number}{record}; its log is {told['log']}", err=True)


def _batch_job(
    *,
    command: tuple[str, ...],
    tasks_per_node: int | None,
    exclusive: bool,
    more: tuple[str, ...],
    start: Literal["mpirun", "srun", "none"],
    setup: tuple[str, ...],
    **options: Any,
) -> "BatchJob":
    from lbsgd.launch.mpirun import console_script
    from lbsgd.launch.slurm import BatchJob

    require_submittable(command, starts_itself=start == "none", interface=options["interface"])
    given = {name.replace("_", "-"): options.pop(name) for name in DIRECTIVES}
    directives = {name: value for name, value in given.items() if value is not None}
    directives |= {"exclusive": None} if exclusive else {}
    return BatchJob(
        program="lbsgd" if setup else console_script(),
        command=command,
        tasks_per_node=tasks_per_node or _ranks_of_gpus(given["gpus-per-node"]),
        directives=directives | dict(_sbatch_option(text) for text in more),
        start=start,
        setup=setup,
        **options,
    )


def _ranks_of_gpus(gpus_per_node: str | None) -> int:
    if gpus_per_node is None:
        raise UsageError("neither --gpus-per-node nor --tasks-per-node is given; say how many ranks a node has")
    return int(gpus_per_node.split(":")[-1])


def _sbatch_option(text: str) -> tuple[str, str | None]:
    """A long option of sbatch that has none of ours: "KEY=VALUE" or, for a flag, "KEY"."""
    name, equals, value = text.removeprefix("--").partition("=")
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise UsageError(f"--sbatch {text!r} is not KEY=VALUE or KEY, a long option of sbatch such as mail-type=END")
    if name in FIXED or name.replace("-", "_") in DIRECTIVES:
        raise UsageError(f"--sbatch {text!r}: the script sets --{name}; see `lbsgd launch slurm --help`")
    return name, value if equals else None
