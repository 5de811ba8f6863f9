"""--np, --hosts, --interface and --oversubscribe: a command that starts itself as many ranks, unless a launcher already did."""

import os
import re
import sys
from collections.abc import Callable
from typing import Any

import click

from lbsgd.commands.options import POSITIVE
from lbsgd.errors import UsageError


class Interface(click.ParamType):
    """The name of a network interface."""

    name = "interface"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}", value):
            self.fail(f"{value!r} is not the name of a network interface, such as eth0; `ip link` lists them", param, ctx)
        return value


interface_option = click.option(
    "--interface",
    type=Interface(),
    metavar="NAME",
    help="With --hosts: the network interface to talk through, named the same on all hosts.  [default: Open MPI chooses]",
)

RANKS_OPTIONS = (
    click.option("--np", "-np", "np", type=POSITIVE, help="Start this many ranks with mpirun.  [default: be one rank]"),
    click.option("--hosts", "-H", metavar="HOST:SLOTS,...", help="With --np: the hosts to start the ranks on."),
    interface_option,
    click.option("--oversubscribe", is_flag=True, help="With --np: allow more ranks than GPUs or CPU cores."),
)


def ranks_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `leave_to_ranks` takes."""
    for option in reversed(RANKS_OPTIONS):
        command = option(command)
    return command


def leave_to_ranks(ctx: click.Context, np: int | None, hosts: str | None, interface: str | None, oversubscribe: bool) -> None:
    """Start this same command as the ranks asked for and exit as they do; return where this process is a rank itself.

    Raises UsageError when a launcher started another number of ranks than `np`.
    """
    from lbsgd.world import launched

    found = launched()
    if found is None and (np is not None or hosts is not None):
        ctx.exit(start_ranks(np, hosts, interface, oversubscribe))
    if np is not None and found is not None and np != found[1]:
        raise UsageError(f"--np {np}, but {found[0]} started {found[1]} ranks; leave --np out under a launcher")


def start_ranks(np: int | None, hosts: str | None, interface: str | None, oversubscribe: bool) -> int:
    """Start this same command as `np` ranks and return their exit code."""
    from lbsgd.launch import mpirun, slots

    if np is None:
        np = sum(slots.parse_hosts(hosts).values())
    if not oversubscribe:
        slots.require_slots(np, hosts)
    mpirun.require_mpirun()
    command = (mpirun.console_script(), *sys.argv[1:])
    job = mpirun.Job(np=np, command=command, hosts=hosts, interface=interface, oversubscribe=oversubscribe)
    return mpirun.run(mpirun.render(job, os.environ, mpirun.remote_prefix()))
