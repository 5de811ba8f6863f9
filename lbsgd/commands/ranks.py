"""--np, --hosts, --hostfile, --interface, --oversubscribe: a command that starts itself as many ranks, unless a launcher did.

Without them it is one rank: a world of one where many were meant is the commonest trap of all, so it says so where a scheduler
gave more.
"""

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lbsgd.commands.options import POSITIVE
from lbsgd.errors import EnvironmentNotReady, UsageError

if TYPE_CHECKING:
    from lbsgd.launch.hosts import Allocation
    from lbsgd.launch.job import Job

ALL_SLOTS = "auto"


class RankCount(click.ParamType):
    """How many ranks: a number, or "auto" for one on each slot."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        return value if value == ALL_SLOTS else POSITIVE.convert(value, param, ctx)


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
    help="Network interface between the hosts, of the same name on all of them.  [default: chosen by MPI]",
)

HOSTS_OPTIONS = (
    click.option("--hosts", "-H", metavar="HOST:SLOTS,...", help="Hosts to use.  [default: the scheduler's, or this one]"),
    click.option(
        "--hostfile",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="File with one host per line: HOST slots=N.",
    ),
    interface_option,
    click.option("--oversubscribe", is_flag=True, help="Allow more ranks than GPUs or CPU cores."),
)

NP_OPTION = click.option(
    "--np",
    "-np",
    "np",
    type=RankCount(),
    metavar="N|auto",
    help="Number of ranks to start; auto: one per slot.  [default: run as a single rank]",
)


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The ranks that a command line asks for. np: None where it does not say."""

    np: int | str | None
    hosts: str | None
    hostfile: Path | None
    interface: str | None
    oversubscribe: bool

    @property
    def are_asked_for(self) -> bool:
        return not (self.np is None and self.hosts is None and self.hostfile is None)

    def allocation(self) -> "Allocation":
        """The hosts that they may use. Raises UsageError and EnvironmentNotReady as `find_allocation` does."""
        from lbsgd.launch.hosts import find_allocation

        return find_allocation(os.environ, hosts=self.hosts, hostfile=self.hostfile)

    def count(self, allocation: "Allocation") -> int:
        """How many they are: as many as asked for, or one per slot of the allocation."""
        return self.np if isinstance(self.np, int) else allocation.total


def hosts_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--hosts, --hostfile, --interface and --oversubscribe, which with `np` become the argument `ranks`."""

    @functools.wraps(command)
    def collect(*arguments: Any, np, hosts, hostfile, interface, oversubscribe, **options: Any) -> Any:
        ranks = Ranks(np=np, hosts=hosts, hostfile=hostfile, interface=interface, oversubscribe=oversubscribe)
        return command(*arguments, ranks=ranks, **options)

    return functools.reduce(lambda function, option: option(function), reversed(HOSTS_OPTIONS), collect)


def ranks_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that begins with `leave_to_ranks`, as the argument `ranks`."""
    return NP_OPTION(hosts_options(command))


def leave_to_ranks(ctx: click.Context, ranks: Ranks) -> None:
    """Start this same command as the ranks asked for and exit as they do; return where this process is a rank itself.

    Raises UsageError when a launcher started another number of ranks than was asked for.
    """
    from lbsgd.ranks.world import launched

    found = launched()
    if found is None and ranks.are_asked_for:
        ctx.exit(_start_ranks(ranks))
    if found is None:
        _warn_of_idle_slots()
    elif ranks.np not in (None, ALL_SLOTS, found[1]):
        raise UsageError(f"--np {ranks.np}, but {found[0]} started {found[1]} ranks; leave --np out under a launcher")


def job_of(ranks: Ranks, command: tuple[str, ...], **details: Any) -> "Job":
    """The job of starting `command` as these ranks; without a number, as one on each slot.

    Raises UsageError and EnvironmentNotReady as `find_allocation` and `require` do.
    """
    from lbsgd.launch.hosts import require
    from lbsgd.launch.job import Job

    allocation = ranks.allocation()
    np = ranks.count(allocation)
    if not ranks.oversubscribe:
        require(allocation, np)
    return Job(
        np=np,
        command=command,
        hosts=allocation.hosts(np),
        interface=ranks.interface,
        oversubscribe=ranks.oversubscribe,
        **details,
    )


def _start_ranks(ranks: Ranks) -> int:
    """Start this same command as ranks and return their exit code."""
    from lbsgd.launch import mpirun
    from lbsgd.launch.mpi_flavour import find_flavour

    job = job_of(ranks, (mpirun.console_script(), *sys.argv[1:]), flavour=find_flavour())
    return mpirun.start(job)


def _warn_of_idle_slots() -> None:
    """Say so where a scheduler gave room for more ranks than this one. What it says may be for others to understand."""
    from lbsgd.launch.hosts import SCHEDULERS, find_allocation

    if not any(os.environ.get(variable) for variable in SCHEDULERS):
        return
    with contextlib.suppress(EnvironmentNotReady):
        allocation = find_allocation(os.environ)
        if allocation.total > 1:
            click.echo(
                f"warning: {allocation.source} has {allocation.total} {allocation.of}, but this is one worker; "
                f"start one on each with --np auto",
                err=True,
            )
