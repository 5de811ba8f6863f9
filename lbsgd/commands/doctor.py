"""`lbsgd doctor`: whether hosts, or ranks that a launcher started, are ready for a job; as a table or JSON."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lbsgd.commands.options import POSITIVE, framework_option, runs_option
from lbsgd.commands.ranks import ALL_SLOTS, RankCount, Ranks, hosts_options
from lbsgd.errors import EnvironmentNotReady, UsageError

if TYPE_CHECKING:
    from lbsgd.doctor.finding import Finding
    from lbsgd.doctor.request import Request

RANKS_ALONE = 2
"""Without hosts and GPUs two ranks show what many would."""

COLOURS = {"ok": "green", "warning": "yellow", "problem": "red", "skipped": "bright_black"}
FOLDER = click.Path(path_type=Path)


@click.group(invoke_without_command=True)
@click.option(
    "--np",
    "-np",
    "np",
    type=RankCount(),
    metavar="N|auto",
    help="Ranks of the job; auto: one per slot.  [default: auto; 2 on this host without GPUs]",
)
@hosts_options
@framework_option(required=False, help="Framework to check.  [default: all installed ones]")
@click.option("--data", metavar="DIR", help="Data set that every host must see.  [default: not checked]")
@runs_option
@click.option(
    "--recipe", metavar="NAME|FILE", default="goyal2017", show_default=True, help="Recipe whose checkpoint size is checked."
)
@click.option("--keep-checkpoints", type=POSITIVE, default=5, show_default=True, help="Number of checkpoints that are kept.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="Time that a host, or the ranks, may take to answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
@click.pass_context
def doctor(
    ctx: click.Context,
    /,
    *,
    ranks: Ranks,
    framework: str | None,
    data: str | None,
    runs: Path,
    recipe: str,
    keep_checkpoints: int,
    timeout: float,
    as_json: bool,
) -> None:
    """Find what would keep a job from running on these hosts, and say what to do about it.

    The hosts are those named, those of the surrounding Slurm, PBS, LSF or MPIJob allocation, or this one. Each reports its
    software, devices, network, folders and data; then ranks are started on all of them and sum arrays. Under horovodrun, mpirun
    or srun, the ranks examine themselves. The exit code is 3 if there is a problem.

    \b
      lbsgd doctor --hosts node1:8,node2:8 --data /data/imagenet
      horovodrun -np 16 -H node1:8,node2:8 lbsgd doctor --json
    """
    if ctx.invoked_subcommand:
        return
    from lbsgd.data import from_anywhere
    from lbsgd.policy.recipe import load_recipe
    from lbsgd.ranks.world import launched

    about = {
        "interface": ranks.interface,
        "oversubscribe": ranks.oversubscribe,
        "frameworks": (framework,) if framework else (),
        "data": data and from_anywhere(data),
        "runs": runs.absolute(),
        "recipe": load_recipe(recipe, []),
        "keep_checkpoints": keep_checkpoints,
        "timeout": timeout,
    }
    if found := launched():
        ctx.color = False  # mpirun gives ranks a terminal, even when its own output is a file
        ctx.exit(_as_rank(found, ranks, as_json, about))
    ctx.exit(_report(_examine(ranks, about), as_json))


def _examine(ranks: Ranks, about: dict) -> "list[Finding]":
    from lbsgd.doctor.examination import examine
    from lbsgd.doctor.request import Request

    allocation = ranks.allocation()
    alone = ranks.np is None and allocation.is_local and allocation.of == "CPU cores"
    np = RANKS_ALONE if alone else ranks.count(allocation)
    request = Request(allocation=allocation, np=np, launched=False, **about)
    _say(request)
    return examine(request)


def _as_rank(found: tuple[str, int], ranks: Ranks, as_json: bool, about: dict) -> int:
    """Be one rank of those that examine themselves; the exit code."""
    from lbsgd.doctor import as_rank, meeting
    from lbsgd.doctor.rank import is_speaker, time_limit
    from lbsgd.doctor.request import Request
    from lbsgd.ranks.world import connect

    launcher, started = found
    try:
        with time_limit(about["timeout"], f"the meeting of the {started} ranks that {launcher} started"):
            world = connect()
    except EnvironmentNotReady as error:
        return _report([meeting.alone(str(error))], as_json) if is_speaker() else error.exit_code
    if ranks.np not in (None, ALL_SLOTS, world.size):
        raise UsageError(f"--np {ranks.np}, but {launcher} started {world.size} ranks; leave --np out under a launcher")
    request = Request(allocation=as_rank.allocation_of(world), np=world.size, launched=True, **about)
    if world.is_first:
        _say(request)
    findings = as_rank.examine(world, request)
    return _report(findings, as_json) if world.is_first else _code(findings)


def _say(request: "Request") -> None:
    from lbsgd.doctor.finding import names

    where = names(list(request.allocation.slots))
    click.echo(f"examining {request.np} ranks on {where} ({request.allocation.source})", err=True)


def _report(findings: "list[Finding]", as_json: bool) -> int:
    """Print the findings; the exit code."""
    from lbsgd.doctor.finding import merged

    if as_json:
        told = [asdict(finding) for finding in findings]
        click.echo(json.dumps({"schema": 1, "ready": _code(findings) == 0, "findings": told}, indent=2))
    else:
        for finding, hosts in merged(findings):
            click.echo(text(finding, hosts))
        click.echo(_summary(findings))
    return _code(findings)


def _code(findings: "list[Finding]") -> int:
    from lbsgd.doctor.examination import is_ready

    return 0 if is_ready(findings) else EnvironmentNotReady.exit_code


def text(finding: "Finding", hosts: list[str]) -> str:
    """What is shown of a finding on these hosts: a line, and two more where something is to be done."""
    from lbsgd.doctor.finding import names

    mark = click.style(f"{finding.status:<8}", fg=COLOURS[finding.status])
    where = f"{names(hosts)}: " if hosts else ""
    line = f"{mark}  {finding.check}: {where}{finding.found}"
    return f"{line}\n{'':10}why: {finding.why}\n{'':10}do:  {finding.advice}" if finding.why else line


def _summary(findings: "list[Finding]") -> str:
    counts = {status: sum(finding.status == status for finding in findings) for status in ("problem", "warning")}
    told = ", ".join(f"{count} {status}{'s' * (count > 1)}" for status, count in counts.items() if count)
    return f"{'not ready' if counts['problem'] else 'ready'}{': ' * bool(told)}{told}"


@doctor.command("facts", hidden=True)
@click.option("--folder", type=FOLDER, required=True, help="Folder in which ranks start.")
@click.option("--runs", type=FOLDER, required=True, help="Folder of all runs.")
@click.option("--mark", required=True, help="Name of a file in it, created where the examination was started.")
@click.option("--mpirun", metavar="PATH", help="The mpirun that starts the ranks.")
@click.option("--data", metavar="DIR", help="The data set.")
@click.option("--peer", "peers", metavar="HOST", multiple=True, help="Another host. Repeatable.")
def facts(**asked) -> None:
    """Report this host's facts, one line of JSON per section; `lbsgd doctor` runs it on every host."""
    from lbsgd.doctor.facts import collect
    from lbsgd.doctor.request import Question

    for name, section in collect(Question(**asked)):
        click.echo(json.dumps({name: section}))


@doctor.command("rank", hidden=True)
@framework_option(required=False, help="Sum with Horovod and this framework.  [default: with MPI]")
@click.pass_context
def rank(ctx: click.Context, /, framework: str | None) -> None:
    """Run as one of the ranks that `lbsgd doctor` starts."""
    from lbsgd.doctor.rank import be_rank

    ctx.exit(be_rank(framework))
