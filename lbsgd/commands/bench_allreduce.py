"""`lbsgd bench allreduce`: nccl-tests' all_reduce_perf for the transports of lbsgd's ranks, with its flags and columns."""

import json
import os
import re
import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from lbsgd.commands.allreduce_table import HEADER, row_text, summary_text
from lbsgd.commands.options import FRAMEWORK, POSITIVE
from lbsgd.commands.ranks import Ranks, leave_to_ranks, ranks_options
from lbsgd.errors import LbsgdError, UsageError
from lbsgd.launch.horovod.defaults import CYCLE_MS, FUSION_BYTES

if TYPE_CHECKING:
    from lbsgd.backends.allreduce_contract import Transport
    from lbsgd.measuring.allreduce import Measurement, Sweep
    from lbsgd.ranks.world import World

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


class Size(click.ParamType):
    """A number of bytes: 8, 64K, 16M or 1G, in units of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([1-9]\d*)([KMG]?)", value.upper())
        if not match:
            self.fail(f"{value!r} is not a number of bytes such as 8, 64K, 16M or 1G", param, ctx)
        return int(match[1]) * UNITS[match[2]]


@click.command("allreduce")
@click.option("--begin", "-b", type=Size(), default="8", show_default=True, help="Bytes of the smallest array.")
@click.option("--end", "-e", type=Size(), default="64M", show_default=True, help="Bytes of the largest array.")
@click.option("--step-bytes", "-i", type=Size(), help="Bytes by which the arrays grow, instead of --factor.")
@click.option("--factor", "-f", type=click.IntRange(min=2), help="Factor by which the arrays grow.  [default: 2]")
@click.option("--iterations", "-n", type=POSITIVE, default=20, show_default=True, help="Timed sums per size.")
@click.option(
    "--warm-up", "-w", type=click.IntRange(min=0), default=5, show_default=True, help="Sums per size before the timed ones."
)
@click.option("--check", "-c", type=click.IntRange(0, 1), default=1, show_default=True, help="1: verify every sum; 0: do not.")
@click.option(
    "--datatype",
    "-d",
    type=click.Choice(["float16", "float32", "float64", "int32", "int64"]),
    default="float32",
    show_default=True,
    help="Element type; MPI has no float16.",
)
@click.option(
    "--through",
    metavar="TRANSPORT,...",
    default="horovod,mpi4py",
    show_default=True,
    help="Transports that sum: horovod, mpi4py (MPI only, on the CPU), or both.",
)
@click.option(
    "--framework",
    type=FRAMEWORK,
    default="torch",
    show_default=True,
    help="Framework whose tensors Horovod sums, on the device that training uses.",
)
@ranks_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output, and the table on standard error.")
@click.pass_context
def bench_allreduce(
    ctx: click.Context,
    /,
    *,
    step_bytes: int | None,
    factor: int | None,
    check: int,
    through: str,
    framework: str,
    ranks: Ranks,
    as_json: bool,
    **sizes: Any,
) -> None:
    """Measure how fast the ranks sum arrays of many sizes, and whether the sums are right.

    The flags and columns are those of nccl-tests; a time is the slowest rank's, the median over the iterations. Run it under
    horovodrun, mpirun or srun, or with --np N, which starts the ranks.

    \b
      lbsgd bench allreduce --np 16 --hosts node1:8,node2:8 -b 1M -e 256M
      horovodrun -np 256 lbsgd bench allreduce --framework tensorflow --json
    """
    from lbsgd.measuring.allreduce import Sweep

    if step_bytes and factor:
        raise UsageError(f"--step-bytes {step_bytes} and --factor {factor}: give one of them")
    sweep = Sweep(**sizes, step=step_bytes, factor=factor or 2, check=bool(check))
    names = _names(through)
    leave_to_ranks(ctx, ranks)
    _run_as_rank(sweep, names, framework, as_json)


def _names(through: str) -> list[str]:
    from lbsgd.measuring.allreduce import TRANSPORTS

    names = through.split(",")
    for name in names:
        if name not in TRANSPORTS:
            raise UsageError(f"--through {through!r}: there is no {name!r}; give one or more of {', '.join(TRANSPORTS)}")
    return names


def _run_as_rank(sweep: "Sweep", names: list[str], framework: str, as_json: bool) -> None:
    """Be one rank of the measurement, from MPI's start to its end."""
    from lbsgd.measuring.allreduce import open_transports
    from lbsgd.ranks.agreement import require_agreement, together
    from lbsgd.ranks.failure import leave_together
    from lbsgd.ranks.world import connect

    world = connect()
    try:
        require_agreement(world, {"sweep": asdict(sweep), "through": sorted(names), "framework": framework})
        transports = together(world, lambda: open_transports(world, names, framework, sweep.datatype))
        _warn(world)
        rows = _print_table(world, transports, sweep, to_stderr=as_json)
        report = _report(world, transports, sweep, rows)
        if world.is_first and as_json:
            click.echo(json.dumps(report, indent=2))
        together(world, lambda: require_right(rows))
    except Exception as error:
        leave_together(world, error, None)


def _warn(world: "World") -> None:
    if not world.is_first:
        return
    if world.size == 1:
        click.echo("warning: one rank alone: nothing is sent, and busbw is 0", err=True)
    elif world.local_size == world.size:
        click.echo(f"warning: all {world.size} ranks are on one host: this measures its memory, not a network", err=True)


def require_right(rows: list["Measurement"]) -> None:
    """Raise LbsgdError unless every sum that was checked is exact."""
    wrong = [row for row in rows if row.wrong]
    if wrong:
        first, count = wrong[0], sum(row.wrong or 0 for row in wrong)
        raise LbsgdError(
            f"{count:,} elements are not the sum, first through {first.through} at {first.bytes:,} "
            "bytes: MPI, Horovod, the network or a rank's memory is broken; do not train on these ranks"
        )


def _print_table(world: "World", transports: list["Transport"], sweep: "Sweep", to_stderr: bool) -> list["Measurement"]:
    """Measure; rank 0 prints every row as soon as it is known."""
    from lbsgd.measuring.allreduce import measure

    def say(line: str) -> None:
        if world.is_first:
            click.echo(line, err=to_stderr)

    say(HEADER)
    rows = []
    for transport in transports:
        for measured in measure(world, transport, sweep):
            rows += measured
            say(row_text(measured, sweep.datatype))
    say(summary_text(rows))
    return rows


def _report(world: "World", transports: list["Transport"], sweep: "Sweep", rows: list["Measurement"]) -> dict[str, Any]:
    """What --json prints. Collective."""
    from lbsgd.record.environment import describe_environment

    about = transports[-1].environment()
    return {
        "schema": 1,
        "kind": "allreduce",
        "command": shlex.join(["lbsgd", *sys.argv[1:]]),
        "world": {"size": world.size, "local_size": world.local_size, "hosts": world.hosts, "launcher": world.launcher},
        "settings": asdict(sweep),
        "horovod": {  # what it takes where these are not set
            "cycle_time_ms": float(os.environ.get("HOROVOD_CYCLE_TIME", CYCLE_MS)),
            "fusion_threshold_bytes": int(os.environ.get("HOROVOD_FUSION_THRESHOLD", FUSION_BYTES)),
        },
        "environment": describe_environment(about, mpi=world.mpi, hosts=world.hosts, devices=world.gather(about["device"])),
        "rows": [
            asdict(row) | {"type": sweep.datatype, "redop": "sum", "algbw": row.algbw, "busbw": row.busbw} for row in rows
        ],
    }
