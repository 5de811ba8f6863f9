"""`lbsgd launch`: one lbsgd command line, started or submitted by the launcher that the cluster has."""

import click

from lbsgd.commands.launch_horovodrun import horovodrun
from lbsgd.commands.launch_kubernetes import kubernetes
from lbsgd.commands.launch_mpirun import mpirun
from lbsgd.commands.launch_slurm import slurm


@click.group()
def launch() -> None:
    """Start a command on many hosts by horovodrun, mpirun, Slurm or Kubernetes.

    \b
      lbsgd launch mpirun --np 16 --hosts node1:8,node2:8 -- train --framework torch --data /data/imagenet
      lbsgd launch slurm --nodes 32 --gpus-per-node 8 --print -- train --framework torch --data /data/imagenet

    What follows `--` is an lbsgd command line. With --print, the command or job is shown and not started.
    """


for command in (horovodrun, mpirun, slurm, kubernetes):
    launch.add_command(command)
