"""`lbsgd launch mpirun`: the command line that starts ranks by the mpirun of Open MPI, MPICH or Intel MPI."""

import os
import shlex
from pathlib import Path
from typing import Any

import click

from lbsgd.commands.options import POSITIVE
from lbsgd.commands.ranks import RankCount, Ranks, hosts_options, job_of
from lbsgd.commands.startable import command_argument, require_startable
from lbsgd.errors import EnvironmentNotReady, UsageError
from lbsgd.launch.mpi_flavour import FLAVOURS


class Words(click.ParamType):
    """Words as a shell would take them apart."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}; quote it as for a shell, such as --mpi-args '--mca btl ^openib'", param, ctx)


np_option = click.option(
    "--np", "-np", "-n", "np", type=RankCount(), metavar="N|auto", help="Number of ranks; auto: one per slot.  [default: auto]"
)
mpi_args_option = click.option(
    "--mpi-args", type=Words(), metavar="TEXT", default="", help="Additional mpirun options, quoted as for a shell."
)
print_option = click.option("--print", "only_print", is_flag=True, help="Show the command without running it.")


# What follows the first word that is no option belongs to the command, even without --.
@click.command("mpirun", context_settings={"allow_interspersed_args": False})
@np_option
@hosts_options
@click.option(
    "--cores-per-rank", type=POSITIVE, metavar="N", help="Bind each rank to N cores of its own and give it N threads."
)
@click.option("--mpi", "flavour", type=click.Choice(FLAVOURS), help="Kind of mpirun.  [default: detected by mpirun --version]")
@mpi_args_option
@click.option("--tag-output", is_flag=True, help="Start each line of output with the rank that wrote it.")
@print_option
@command_argument
@click.pass_context
def mpirun(
    ctx: click.Context,
    /,
    ranks: Ranks,
    cores_per_rank: int | None,
    flavour: str | None,
    mpi_args: tuple[str, ...],
    tag_output: bool,
    only_print: bool,
    command: tuple[str, ...],
) -> None:
    """Start a command as ranks by the mpirun of Open MPI, MPICH or Intel MPI.

    \b
      lbsgd launch mpirun --hosts node1:8,node2:8 -- train --framework torch --data /data/imagenet
      lbsgd launch mpirun --np 2 --print -- train --framework torch --recipe demo --data digits
    """
    from lbsgd.launch import mpirun
    from lbsgd.launch.mpi_flavour import find_flavour

    require_startable(command)
    if cores_per_rank is not None and ranks.oversubscribe:
        raise UsageError("--cores-per-rank gives ranks cores of their own, --oversubscribe has them share; give one of them")
    job = job_of(
        ranks,
        (mpirun.console_script(), *command),
        flavour=flavour or find_flavour(),
        cores_per_rank=cores_per_rank,
        tag_output=tag_output,
        mpi_args=mpi_args,
    )
    if only_print:
        click.echo(shlex.join(mpirun.render(job, os.environ, _prefix_if_any())))
    else:
        ctx.exit(mpirun.start(job))


def _prefix_if_any() -> Path | None:
    """The folder of MPI on other hosts, where there is one on this: a login node may have none."""
    from lbsgd.launch.mpirun import remote_prefix

    try:
        return remote_prefix()
    except EnvironmentNotReady:
        click.echo("note: no mpirun is here, so --prefix, the folder of Open MPI on other hosts, is left out", err=True)
        return None
