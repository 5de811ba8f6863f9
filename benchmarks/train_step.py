"""Images a second of lbsgd's training loop beside a stock Horovod loop, fp32 ResNet-18, on ranks pinned to a core each.

Both sides live in the same processes and take turns, a few steps each: a busy machine slows both. Only the ratio means
anything on another machine.
"""

import importlib
import os
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from lbsgd.errors import EnvironmentNotReady, LbsgdError
from lbsgd.launch import mpirun

LOCAL_RANK = "OMPI_COMM_WORLD_LOCAL_RANK"
SIDES = ("lbsgd", "stock")
CLASSES = 1000
WARM_UP_ROUNDS = 1
POSITIVE = click.IntRange(min=1)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured. batch: images a rank and step; size: pixels a side; steps: of one side in a round."""

    framework: str
    np: int
    batch: int
    size: int
    rounds: int
    steps: int

    @property
    def images(self) -> int:
        """Images that all ranks handle in one side's turn."""
        return self.np * self.batch * self.steps


@click.command(context_settings={"show_default": True})
@click.option("--framework", type=click.Choice(["torch", "tensorflow"]), required=True, help="What executes the steps.")
@click.option("--np", type=POSITIVE, default=2, help="Ranks, each on a core of its own.")
@click.option("--batch", type=POSITIVE, default=16, help="Images a rank takes at each step.")
@click.option("--size", type=POSITIVE, default=128, help="Pixels a side of an image.")
@click.option("--rounds", type=POSITIVE, default=21, help="Turns of each side that count.")
@click.option("--steps", type=POSITIVE, default=3, help="Steps of a turn.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write everything measured here.")
def main(file: Path | None, **options: Any) -> None:
    """Compare lbsgd's training loop with a stock Horovod loop."""
    settings = Settings(**options)
    try:
        if LOCAL_RANK in os.environ:
            run_as_rank(settings, file)
        else:
            sys.exit(start_ranks(settings.np))
    except LbsgdError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)


def start_ranks(np: int) -> int:
    """Start this same command as `np` ranks and return their exit code."""
    cores = len(os.sched_getaffinity(0))
    if np > cores:
        raise EnvironmentNotReady(f"--np {np} ranks want a core each, this process may use {cores}; lower --np")
    mpirun.require_mpirun()
    os.environ["OMP_NUM_THREADS"] = "1"
    return mpirun.run(mpirun.render(mpirun.Job(np=np, command=(sys.executable, *sys.argv)), os.environ))


def run_as_rank(settings: Settings, file: Path | None) -> None:
    """Be one rank of the measurement; rank 0 reports."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(os.environ[LOCAL_RANK])]})  # before numpy or a framework starts threads

    from lbsgd.failure import leave_together
    from lbsgd.files import write_json
    from lbsgd.world import connect

    world = connect()
    try:
        report = measure(world, settings)
        if world.is_first:
            click.echo(table(report))
            if file:
                write_json(file, report)
    except Exception as error:
        leave_together(world, error, None)


def measure(world, settings: Settings) -> dict[str, Any]:
    """The content of the JSON file. Collective."""
    from lbsgd.environment import describe_environment
    from lbsgd.record import utc_now

    started, load = utc_now(), os.getloadavg()[0]
    loops = build_loops(world, settings)
    pairs, losses = [], {}
    for number in range(-WARM_UP_ROUNDS, settings.rounds):
        seconds = {}
        for side in SIDES if number % 2 else reversed(SIDES):
            seconds[side], losses[side] = take_turn(world, loops[side], settings.steps)
        if number >= 0:
            pairs.append({"first": next(iter(seconds)), "seconds": seconds})
        if world.is_first:
            click.echo(f"round {number + 1} of {settings.rounds}" if number >= 0 else "warm-up", err=True)
    return {
        "schema": 1,
        "started": started,
        "command": shlex.join(["python", *sys.argv]),
        "settings": asdict(settings) | {"model": "resnet18", "precision": "fp32", "classes": CLASSES},
        "gradient_sizes": {side: sorted(loop.gradient_sizes()) for side, loop in loops.items()},
        "last_loss": losses,
        **rates(settings, pairs),
        "load_average": [load, os.getloadavg()[0]],
        "environment": describe_environment(world, loops["lbsgd"].backend.environment()),
    }


def build_loops(world, settings: Settings) -> dict[str, Any]:
    """Both sides, ready to take turns."""
    import lbsgd_loop

    shape = {"batch": settings.batch, "size": settings.size, "classes": CLASSES}
    lbsgd = lbsgd_loop.Loop(world, settings.framework, **shape)
    stock = importlib.import_module(f"stock_{settings.framework}")
    return {"lbsgd": lbsgd, "stock": stock.Loop(learning_rate=lbsgd.schedule.lr(0), **shape)}


def take_turn(world, loop, steps: int) -> tuple[list[float], float]:
    """Seconds of each rank for `steps` steps that all begin together, and this rank's last loss. Collective."""
    world.comm.Barrier()
    start = time.perf_counter()
    loss = loop.take(steps)
    return world.comm.allgather(time.perf_counter() - start), loss


def rates(settings: Settings, pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """Images a second of each turn, by its slowest rank, and what the pairs' ratios say."""
    from statistics import median

    from pairs import summarise

    for pair in pairs:
        pair["images_per_second"] = {side: settings.images / max(pair["seconds"][side]) for side in SIDES}
        pair["ratio"] = pair["images_per_second"]["lbsgd"] / pair["images_per_second"]["stock"]
    return {
        "pairs": pairs,
        "images_per_second": {side: median(pair["images_per_second"][side] for pair in pairs) for side in SIDES},
        "ratio": summarise([pair["ratio"] for pair in pairs]),
    }


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    settings, ratio, environment = report["settings"], report["ratio"], report["environment"]
    framework = settings["framework"]
    version = environment["backend"][framework]
    lines = [
        f"{framework} {version}, {settings['model']} {settings['precision']}, {settings['np']} ranks on a core each of "
        f"{environment['processor']}, {settings['batch']} images of {settings['size']} x {settings['size']} a rank",
        f"{'round':>8}{'lbsgd':>12}{'stock':>12}{'ratio':>10}   (images/s of all ranks)",
    ]
    rows = [(str(number), pair["images_per_second"], pair["ratio"]) for number, pair in enumerate(report["pairs"], start=1)]
    for name, rate, quotient in [*rows, ("median", report["images_per_second"], ratio["median"])]:
        lines.append(f"{name:>8}{rate['lbsgd']:12.1f}{rate['stock']:12.1f}{quotient:10.3f}")
    low, high = ratio["interval"]
    lines.append(
        f"lbsgd / stock: {ratio['median']:.3f}, {100 * ratio['interval_confidence']:.0f} % interval of the median "
        f"{low:.3f} to {high:.3f}, all pairs {ratio['min']:.3f} to {ratio['max']:.3f}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
