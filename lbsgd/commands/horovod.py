"""`lbsgd horovod`: build Horovod for this environment, and check that it works here."""

import json
from pathlib import Path

import click

from lbsgd.commands.options import FRAMEWORK


@click.group()
def horovod() -> None:
    """Build Horovod for this environment, or check it."""


@horovod.command()
@click.option(
    "--framework",
    "frameworks",
    type=FRAMEWORK,
    multiple=True,
    help="Build for this framework only. Repeatable.  [default: all installed ones]",
)
@click.option(
    "--operations",
    type=click.Choice(["auto", "cpu", "nccl"]),
    default="auto",
    show_default=True,
    help="Operations that reduce tensors; auto: NCCL if the frameworks are CUDA builds.",
)
@click.option(
    "--sdist",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Horovod's released source archive, if pip cannot download it.",
)
@click.option("--no-index", is_flag=True, help="Use no package index: the source comes from --sdist or from the cache.")
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    show_default="~/.cache/lbsgd/horovod",
    help="Folder that keeps the wheels and their build logs.",
)
@click.option("--force", is_flag=True, help="Rebuild even if the cache has the wheel.")
@click.option("--jobs", type=click.IntRange(min=1), show_default="the cores", help="Compilers to run in parallel.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Reduce tensors on two ranks at the end.")
def build(
    frameworks: tuple[str, ...],
    operations: str,
    sdist: Path | None,
    no_index: bool,
    cache: Path | None,
    force: bool,
    jobs: int | None,
    verify: bool,
) -> None:
    """Build Horovod for the installed frameworks and MPI, install it, and reduce tensors with it.

    The first build takes a few minutes. A later build for the same versions comes from the cache.
    """
    from lbsgd.launch.horovod.build import build_wheel, default_cache, default_jobs, install
    from lbsgd.launch.horovod.toolchain import inspect_toolchain

    toolchain = inspect_toolchain(frameworks, operations)
    for warning in toolchain.warnings:
        say(f"Warning: {warning}")
    say(f"Horovod for {describe_toolchain(toolchain)}")
    wheel = build_wheel(
        toolchain,
        cache or default_cache(),
        sdist=sdist,
        index=not no_index,
        force=force,
        jobs=jobs or default_jobs(),
        progress=show_progress,
        say=say,
    )
    install(wheel)
    click.echo(f"installed {wheel}")
    for framework in toolchain.frameworks if verify else ():
        verify_and_say(framework)


@horovod.command()
@click.option(
    "--framework",
    "frameworks",
    type=FRAMEWORK,
    multiple=True,
    help="Check this framework only. Repeatable.  [default: all installed ones]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def check(frameworks: tuple[str, ...], as_json: bool) -> None:
    """Show what the installed Horovod was built for, and reduce tensors on two ranks in each framework.

    The exit code is 3 if something is not ready.
    """
    from lbsgd.errors import EnvironmentNotReady
    from lbsgd.launch.horovod.report import examine, report_lines

    report = examine(verify_and_say, frameworks)
    click.echo(json.dumps(report, indent=2) if as_json else "\n".join(report_lines(report)))
    if report["problems"]:
        raise EnvironmentNotReady("; ".join(report["problems"]))


def say(text: str) -> None:
    click.echo(text, err=True)


def describe_toolchain(toolchain) -> str:
    """A toolchain in one line."""
    frameworks = ", ".join(f"{name} {version}" for name, version in toolchain.frameworks.items())
    device = f"CUDA {toolchain.cuda.version}, NCCL {toolchain.cuda.nccl.version}" if toolchain.cuda else "CPU operations"
    return f"{frameworks}, {toolchain.mpi}, {device}, by {toolchain.compiler}"


def show_progress():
    """A bar on a terminal, lines elsewhere."""
    import sys

    from lbsgd.launch.horovod.progress import ProgressBar, ProgressLines

    return ProgressBar() if sys.stderr.isatty() else ProgressLines(say)


def verify_and_say(framework: str) -> dict[str, object]:
    """Reduce tensors of `framework` on two ranks and say that it went well."""
    from lbsgd.launch.horovod.verify import RANKS, verify_allreduce

    found = verify_allreduce(framework)
    say(f"{framework}: {RANKS} ranks reduced tensors on {found['device']} and got the exact values")
    return found
