"""Scaling efficiency by `lbsgd bench` beside that of a hand-written loop, timed from outside, on the same cores.

The loop knows nothing of lbsgd's loader, its steps or its scaling study: mpirun, the backend's train_step in a `for`, a clock
around it. Both start a job of their own for each number of ranks and take turns.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from json_option import json_option
from pairs import summarise

from lbsgd.commands.options import FRAMEWORK

RANK = "OMPI_COMM_WORLD_RANK"
SIZES = (1, 2)
WARM_UP = 5
TARGET_POINTS = 3.0
POSITIVE = click.IntRange(min=1)
Settings = dict[str, Any]


@click.command(context_settings={"show_default": True})
@click.option("--framework", type=FRAMEWORK, default="torch", help="What executes the steps.")
@click.option("--batch", type=POSITIVE, default=16, help="Images per rank and step.")
@click.option("--size", type=POSITIVE, default=64, help="Pixels a side of an image.")
@click.option("--steps", type=POSITIVE, default=30, help="Steps that are timed in each job.")
@click.option("--rounds", type=POSITIVE, default=7, help="Efficiencies that each way gives.")
@json_option
def main(file: Path | None, **settings: Any) -> None:
    """Compare the efficiency that `lbsgd bench` finds with that of a hand-written loop."""
    if RANK in os.environ:
        be_rank_of_the_loop(settings)
    else:
        report = measure(settings)
        click.echo(table(report))
        if file:
            file.write_text(json.dumps(report, indent=2) + "\n")


def be_rank_of_the_loop(settings: Settings) -> None:
    """The hand-written loop: rank 0 prints the seconds that the slowest rank needed."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(os.environ[RANK])]})
    import numpy as np

    from lbsgd.backends import ReplicaSpec, load
    from lbsgd.policy.recipe import load_recipe
    from lbsgd.ranks.world import connect

    world = connect()
    recipe = load_recipe("goyal2017", recipe_values(settings))
    backend = load(settings["framework"], ReplicaSpec(recipe=recipe, classes=1000, world=world))
    backend.broadcast()
    batch, size = settings["batch"], settings["size"]
    images = np.random.default_rng(world.rank).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    labels = np.arange(batch)
    for _ in range(WARM_UP):
        backend.loss_value(backend.train_step(images, labels, 0.001))
    world.barrier()
    start = time.perf_counter()
    for _ in range(settings["steps"]):
        loss = backend.train_step(images, labels, 0.001)
    backend.loss_value(loss)
    seconds = world.max(time.perf_counter() - start)
    if world.is_first:
        print(seconds)


def recipe_values(settings: Settings) -> list[str]:
    return ["model=resnet18", f"batch_per_worker={settings['batch']}", f"images.size={settings['size']}"]


def measure(settings: Settings) -> dict[str, Any]:
    """The content of the JSON file."""
    rounds, load = [], os.getloadavg()[0]
    for number in range(settings["rounds"]):
        one = measure_round(settings, SIZES if number % 2 else SIZES[::-1])
        rounds.append(one)
        click.echo(f"round {number + 1} of {settings['rounds']}: {one['difference_points']:+.1f} points", err=True)
    return {
        "schema": 1,
        "command": shlex.join(["python", *sys.argv]),
        "settings": settings | {"model": "resnet18", "precision": "fp32", "ranks": SIZES},
        "rounds": rounds,
        "efficiency": {way: summarise([one[way]["efficiency"] for one in rounds]) for way in ("bench", "loop")},
        "difference_points": summarise([one["difference_points"] for one in rounds]) | {"target": TARGET_POINTS},
        "load_average": [load, os.getloadavg()[0]],
        "environment": rounds[0]["bench"].pop("environment"),
    }


def measure_round(settings: Settings, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Both efficiencies, from four jobs one after the other: the loop on the first number of ranks, bench on both, the loop on
    the last. So those that are compared are neighbours, and what the machine does otherwise changes little between them.
    """
    first = loop_rate(settings, sizes[0])
    study = run_study(settings, sizes)
    rates = {sizes[0]: first, sizes[1]: loop_rate(settings, sizes[1])}
    bench = figures_of(study)
    loop = {"efficiency": rates[SIZES[-1]] / SIZES[-1] / (rates[SIZES[0]] / SIZES[0]), "images_per_second": rates}
    difference = 100 * (bench["efficiency"] - loop["efficiency"])
    return {"sizes": sizes, "bench": bench, "loop": loop, "difference_points": difference}


def run_study(settings: Settings, sizes: tuple[int, ...]) -> dict[str, Any]:
    """The study of one round that `lbsgd bench` makes of these sizes, the fewest workers being its baseline."""
    values = [word for value in recipe_values(settings) for word in ("--set", value)]
    with tempfile.TemporaryDirectory() as runs:
        command = ["lbsgd", "bench", "--gpus", ",".join(map(str, sizes)), "--framework", settings["framework"], *values]
        length = ["--steps", str(settings["steps"]), "--warm-up", str(WARM_UP), "--repeats", "1"]
        return json.loads(run([*command, *length, "--runs", runs, "--json"]))


def figures_of(study: dict[str, Any]) -> dict[str, Any]:
    """Efficiency and images per second by a study."""
    sizes = {size["workers"]: size for size in study["sizes"]}
    return {
        "efficiency": sizes[SIZES[-1]]["efficiency"],
        "images_per_second": {count: size["images_per_second"] for count, size in sizes.items()},
        "environment": study["environment"],
    }


def loop_rate(settings: Settings, count: int) -> float:
    """Images per second of the hand-written loop on this many ranks."""
    ranks = ["mpirun", "--allow-run-as-root", "--bind-to", "none", "-np", str(count)]
    seconds = float(run([*ranks, sys.executable, *sys.argv]).split()[-1])
    return count * settings["batch"] * settings["steps"] / seconds


def run(command: list[str]) -> str:
    """Standard output of a command whose ranks have a thread each; leave with what it said when it fails."""
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)} failed:\n{done.stderr}")
    return done.stdout


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    settings = report["settings"]
    lines = [
        f"{settings['framework']}, {settings['model']} {settings['precision']}, {settings['batch']} images of "
        f"{settings['size']} x {settings['size']} a rank, {SIZES[-1]} ranks against {SIZES[0]}",
        f"{'round':>8}{'bench':>10}{'loop':>10}{'points':>10}   (efficiency)",
    ]
    rows = [(str(n), one["bench"]["efficiency"], one["loop"]["efficiency"], one["difference_points"])
            for n, one in enumerate(report["rounds"], start=1)]  # fmt: skip
    difference, both = report["difference_points"], report["efficiency"]
    rows.append(("median", both["bench"]["median"], both["loop"]["median"], difference["median"]))
    lines += [f"{name:>8}{bench:10.1%}{loop:10.1%}{points:+10.1f}" for name, bench, loop, points in rows]
    low, high = difference["interval"]
    lines.append(
        f"bench - loop: {difference['median']:+.1f} points, {100 * difference['interval_confidence']:.0f} % interval of the "
        f"median {low:+.1f} to {high:+.1f}; target {TARGET_POINTS:g}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
