"""`lbsgd launch horovodrun`: the command line that starts ranks by Horovod's own launcher, over MPI."""

import os
import shlex
from pathlib import Path

import click

from lbsgd.commands.launch_mpirun import mpi_args_option, np_option, print_option
from lbsgd.commands.ranks import Ranks, hosts_options, job_of
from lbsgd.commands.startable import command_argument, require_startable


@click.command("horovodrun", context_settings={"allow_interspersed_args": False})
@np_option
@hosts_options
@mpi_args_option
@click.option(
    "--output-filename",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Also write each rank's output to files in DIR.",
)
@print_option
@command_argument
@click.pass_context
def horovodrun(
    ctx: click.Context,
    /,
    ranks: Ranks,
    mpi_args: tuple[str, ...],
    output_filename: Path | None,
    only_print: bool,
    command: tuple[str, ...],
) -> None:
    """Start a command as ranks by Horovod's own launcher, over MPI.

    \b
      lbsgd launch horovodrun --hosts node1:8,node2:8 -- train --framework torch --data /data/imagenet

    horovodrun passes every environment variable to every rank; `lbsgd launch mpirun` passes only those that matter.
    """
    from lbsgd.launch import mpirun
    from lbsgd.launch.horovodrun import render, require_horovodrun
    from lbsgd.launch.mpi_flavour import find_flavour

    require_startable(command)
    flavour = find_flavour()
    path = require_horovodrun(flavour)
    job = job_of(ranks, (mpirun.console_script(), *command), flavour=flavour, mpi_args=mpi_args)
    argv = render(job, mpirun.remote_prefix(), output_filename)
    if only_print:
        click.echo(shlex.join(argv))
        return
    # A shell says in "_" what it started; by that the ranks tell horovodrun from mpirun, which it becomes.
    ctx.exit(mpirun.run(argv, environment={**os.environ, "_": path}))
