"""Images per second of lbsgd's training loop beside what else a user would run on CPUs, on ranks pinned to a core each.

The contestants take turns of a few steps: a busy machine slows all of them. Only the ratios mean anything on another machine.
"""

import os
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
from json_option import json_option
from pairs import summarise
from step_groups import Group, groups_of

from lbsgd.commands.options import FRAMEWORK
from lbsgd.errors import EnvironmentNotReady, LbsgdError
from lbsgd.launch import mpirun
from lbsgd.record.atomic import write_json
from lbsgd.record.environment import git_commit, processor
from lbsgd.record.run_record import utc_now

CLASSES = 1000
WARM_UP_ROUNDS = 1
TRIAL_TURNS = 3
POSITIVE = click.IntRange(min=1)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured. batch: images per rank and step; size: pixels a side; steps: of one contestant in a round.

    precision: "fp32", or "best": for each contestant the faster of fp32 and bf16.
    """

    framework: str
    np: int
    precision: str
    batch: int
    size: int
    rounds: int
    steps: int

    @property
    def precisions(self) -> tuple[str, ...]:
        return ("fp32",) if self.precision == "fp32" else ("fp32", "bf16")


@click.command(context_settings={"show_default": True})
@click.option("--framework", type=FRAMEWORK, required=True, help="What executes the steps.")
@click.option("--np", type=POSITIVE, default=2, help="Ranks, each on a core of its own.")
@click.option("--precision", type=click.Choice(["fp32", "best"]), default="fp32", help="best: each contestant's faster one.")
@click.option("--batch", type=POSITIVE, default=16, help="Images per rank and step.")
@click.option("--size", type=POSITIVE, default=128, help="Pixels a side of an image.")
@click.option("--rounds", type=POSITIVE, default=21, help="Turns of each contestant that count.")
@click.option("--steps", type=POSITIVE, default=3, help="Steps of a turn.")
@json_option
def main(file: Path | None, **options: Any) -> None:
    """Compare lbsgd's training loop with Horovod's and the framework's own way to train on several ranks."""
    settings = Settings(**options)
    try:
        cores = len(os.sched_getaffinity(0))
        if settings.np > cores:
            raise EnvironmentNotReady(f"--np {settings.np} ranks want a core each, this process may use {cores}; lower --np")
        mpirun.require_mpirun()
        report = measure(settings)
    except LbsgdError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    click.echo(table(report))
    if file:
        write_json(file, report)


def measure(settings: Settings) -> dict[str, Any]:
    """The content of the JSON file."""
    started, load = utc_now(), os.getloadavg()[0]
    with groups_of(settings.framework, settings.np, settings.precisions, settings.batch, settings.size) as groups:
        contestants = {group.contestant: group for group in groups}
        trial, chosen = choose_precisions(contestants, settings)
        turns = take_turns({name: (contestants[name], precision) for name, precision in chosen.items()}, settings)
        sizes = {name: sorted(group.gradient_sizes) for name, group in contestants.items()}
        versions = groups[0].versions
    return {
        "schema": 2,
        "started": started,
        "command": shlex.join(["python", *sys.argv]),
        "settings": asdict(settings) | {"model": "resnet18", "classes": CLASSES},
        "precision": chosen,
        "trial": trial,
        "gradient_sizes": sizes,
        **rates(turns, settings),
        "load_average": [load, os.getloadavg()[0]],
        "environment": {
            "versions": versions,
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "git_commit": git_commit(),
        },
    }


def choose_precisions(contestants: dict[str, Group], settings: Settings) -> tuple[dict[str, Any], dict[str, str]]:
    """Seconds of a step of each contestant in each precision, the least of TRIAL_TURNS turns; and the faster precision."""
    trial: dict[str, dict[str, float]] = {name: {} for name in contestants}
    for name, group in contestants.items():
        for precision in settings.precisions:
            group.take(precision, 2)
            turns = [max(group.take(precision, settings.steps)) / settings.steps for _ in range(TRIAL_TURNS)]
            trial[name][precision] = min(turns)
    return trial, {name: min(seconds, key=seconds.get) for name, seconds in trial.items()}


def take_turns(contestants: dict[str, tuple[Group, str]], settings: Settings) -> list[dict[str, list[float]]]:
    """Seconds of each rank for each contestant's turn, round by round; each round begins with another contestant."""
    names, rounds = list(contestants), []
    for number in range(-WARM_UP_ROUNDS, settings.rounds):
        first = number % len(names)
        turns = {}
        for name in names[first:] + names[:first]:
            group, precision = contestants[name]
            turns[name] = group.take(precision, settings.steps)
        click.echo(f"round {number + 1} of {settings.rounds}" if number >= 0 else "warm-up", err=True)
        if number >= 0:
            rounds.append(turns)
    return rounds


def rates(turns: list[dict[str, list[float]]], settings: Settings) -> dict[str, Any]:
    """Images per second of each turn, by its slowest rank, and what the rounds' ratios say of each peer."""
    images = settings.np * settings.batch * settings.steps
    rounds = [
        {"seconds": seconds, "images_per_second": {name: images / max(each) for name, each in seconds.items()}}
        for seconds in turns
    ]
    names = sorted(turns[0])
    ratios = {name: [one["images_per_second"]["lbsgd"] / one["images_per_second"][name] for one in rounds] for name in names}
    return {
        "rounds": rounds,
        "images_per_second": {name: median(one["images_per_second"][name] for one in rounds) for name in names},
        "ratios": {name: summarise(ratios[name]) for name in names if name != "lbsgd"},
    }


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    settings, environment = report["settings"], report["environment"]
    framework = settings["framework"]
    lines = [
        f"{framework} {environment['versions'][framework]}, {settings['model']}, {settings['np']} ranks on a core each of "
        f"{environment['processor']}, {settings['batch']} images of {settings['size']} x {settings['size']} a rank",
        f"images/s of all ranks, medians of {settings['rounds']} turns",
    ]
    for name, rate in report["images_per_second"].items():
        lines.append(f"{name:>12}{rate:10.1f}  {report['precision'][name]}")
    for name, ratio in report["ratios"].items():
        low, high = ratio["interval"]
        lines.append(
            f"lbsgd / {name}: {ratio['median']:.3f}, {100 * ratio['interval_confidence']:.0f} % interval of the median "
            f"{low:.3f} to {high:.3f}, all rounds {ratio['min']:.3f} to {ratio['max']:.3f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
