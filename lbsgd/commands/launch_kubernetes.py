"""`lbsgd launch kubernetes`: an MPIJob for an lbsgd command, shown or applied."""

import os
import re
from typing import TYPE_CHECKING, Any

import click

from lbsgd.commands.options import POSITIVE
from lbsgd.commands.ranks import interface_option
from lbsgd.commands.startable import command_argument
from lbsgd.commands.submitted import is_training, print_option, require_submittable, restarts_option
from lbsgd.errors import UsageError

if TYPE_CHECKING:
    from lbsgd.launch.kubernetes import MpiJob, Volume

GPU = "nvidia.com/gpu"


class Name(click.ParamType):
    """A name as Kubernetes takes it where it becomes part of a host name (RFC 1035)."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", value):
            self.fail(f"{value!r} is not lower-case letters, digits and -, with a letter first, such as resnet-1", param, ctx)
        return value


class Size(click.ParamType):
    """A quantity of Kubernetes."""

    name = "size"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?", value):
            self.fail(f"{value!r} is not a quantity such as 64Gi", param, ctx)
        return value


class Mount(click.ParamType):
    """A volume claim and where it is mounted."""

    name = "mount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Volume":
        from lbsgd.launch.kubernetes import Volume

        match = re.fullmatch(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?):(/[^:]*)(:ro)?", value)
        if not match:
            self.fail(f"{value!r} is not CLAIM:/FOLDER or CLAIM:/FOLDER:ro, such as imagenet:/data:ro", param, ctx)
        return Volume(match[1], match[3], bool(match[4]))


@click.command("kubernetes", context_settings={"allow_interspersed_args": False})
@click.option(
    "--image", required=True, help="Image with lbsgd and an ssh server, such as the one that this project's Dockerfile builds."
)
@click.option("--name", type=Name(), default="lbsgd", show_default=True, help="Name of the MPIJob.")
@click.option("--namespace", "-n", type=Name(), help="Namespace.  [default: kubectl's]")
@click.option("--workers", type=POSITIVE, required=True, metavar="N", help="Number of worker pods.")
@click.option("--gpus-per-worker", type=POSITIVE, metavar="N", help="GPUs per worker.")
@click.option("--slots-per-worker", type=POSITIVE, metavar="N", help="Ranks per worker.  [default: one per GPU]")
@click.option("--cpus-per-worker", type=Size(), metavar="N", help="Cores per worker.")
@click.option("--memory-per-worker", type=Size(), metavar="SIZE", help="Memory per worker, including its shared memory.")
@click.option("--shm", type=Size(), metavar="SIZE", default="8Gi", show_default=True, help="Shared memory per worker.")
@click.option(
    "--volume",
    "volumes",
    type=Mount(),
    multiple=True,
    metavar="CLAIM:/FOLDER[:ro]",
    help="Persistent volume claim and its mount point in the pods. Repeatable.",
)
@click.option(
    "--node-selector",
    "selectors",
    multiple=True,
    metavar="LABEL=VALUE",
    help="Label that the workers' nodes must have. Repeatable.",
)
@click.option("--user", type=click.IntRange(min=0), default=1000, show_default=True, help="UID that the image runs as.")
@click.option(
    "--ssh-dir", default="/home/lbsgd/.ssh", show_default=True, help="Folder of that user's ssh keys, which the operator fills."
)
@click.option("--starts-itself", is_flag=True, help="The command starts its own ranks, like bench.")
@interface_option
@click.option(
    "--run-dir", help="Folder of the training run, on a volume; resumed if it has a checkpoint.  [default: runs/<name>]"
)
@click.option(
    "--grace",
    "grace_seconds",
    type=POSITIVE,
    metavar="SECONDS",
    default=120,
    show_default=True,
    help="Time that a pod has to save its state before it is removed.",
)
@restarts_option
@print_option
@command_argument
def kubernetes(only_print: bool, **options: Any) -> None:
    """Run a command over worker pods, as an MPIJob of Kubeflow's mpi-operator.

    \b
      lbsgd launch kubernetes --image registry/lbsgd:cuda --workers 32 --gpus-per-worker 8 \\
        --volume imagenet:/data:ro --volume runs:/runs --run-dir /runs/resnet-1 \\
        -- train --framework torch --data /data/imagenet
    """
    from lbsgd.launch.kubernetes import apply, render, to_yaml

    job = _mpi_job(**options)
    manifest = to_yaml(render(job, os.environ))
    _warn_of_lost_run(job)
    if only_print:
        click.echo(manifest, nl=False)
    else:
        click.echo(apply(manifest))


def _mpi_job(
    *,
    command: tuple[str, ...],
    name: str,
    gpus_per_worker: int | None,
    slots_per_worker: int | None,
    cpus_per_worker: str | None,
    memory_per_worker: str | None,
    selectors: tuple[str, ...],
    run_dir: str | None,
    starts_itself: bool,
    **options: Any,
) -> "MpiJob":
    from lbsgd.launch.kubernetes import MpiJob

    require_submittable(command, starts_itself=starts_itself, interface=options["interface"])
    slots = slots_per_worker or gpus_per_worker
    if slots is None:
        raise UsageError("neither --gpus-per-worker nor --slots-per-worker is given; say how many ranks a worker has")
    asked = {"cpu": cpus_per_worker, "memory": memory_per_worker, GPU: gpus_per_worker}
    return MpiJob(
        name=name,
        command=command,
        slots_per_worker=slots,
        resources={resource: str(amount) for resource, amount in asked.items() if amount is not None},
        node_selector=dict(_label(text) for text in selectors),
        run_dir=(run_dir or f"runs/{name}") if is_training(command) else None,
        starts_itself=starts_itself,
        **options,
    )


def _label(text: str) -> tuple[str, str]:
    label, equals, value = text.partition("=")
    if not (label and equals):
        raise UsageError(f"--node-selector {text!r} is not LABEL=VALUE, such as nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3")
    return label, value


def _warn_of_lost_run(job: "MpiJob") -> None:
    """The record is written by a worker's pod and looked for by the launcher's."""
    if job.run_dir is None or any(job.run_dir.startswith(f"{volume.mount.rstrip('/')}/") for volume in job.volumes):
        return
    click.echo(f"warning: {job.run_dir} is on no --volume: the run is lost with its pod, and no attempt can go on", err=True)
