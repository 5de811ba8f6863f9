"""Images per second of lbsgd's input pipeline beside others, each a process on one core, which take turns of an epoch.

Between its turns a process is stopped, so that what it reads ahead takes no time from another one, and what it had ahead at
the beginning it has again at the end.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
from pairs import summarise

from lbsgd.errors import EnvironmentNotReady

WARM_UP_ROUNDS = 1
LBSGD, TWO_CORES = "lbsgd", "lbsgd_2_cores"
MODULES = {
    LBSGD: "input_lbsgd",
    "pillow": "input_pillow",
    "pillow_uint8": "input_pillow_uint8",
    "tfdata": "input_tfdata",
    "tfdata_uniform": "input_tfdata_uniform",
    TWO_CORES: "input_lbsgd",
}
TARGETS = {"pillow": 2.5, "pillow_uint8": None, "tfdata": 1.1, "tfdata_uniform": 1.1}
SCALING_TARGET = 1.8


@dataclass
class Contestant:
    """A stopped process that runs when it is asked for batches."""

    name: str
    process: subprocess.Popen
    messages: Any

    def answer(self) -> dict[str, Any]:
        """What it says next; it runs until then.

        Raises EnvironmentNotReady when it ended instead.
        """
        self.process.send_signal(signal.SIGCONT)
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.messages.seek(0)
            reason = (self.messages.read().strip().splitlines() or ["no message"])[-1]
            raise EnvironmentNotReady(f"the contestant {self.name} ended: {reason}")
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def take(self, batches: int) -> dict[str, float]:
        """seconds and processor_seconds that this many batches took."""
        self.process.stdin.write(f"{batches}\n")
        self.process.stdin.flush()
        return self.answer()


@contextmanager
def start(name: str, folder: Path, batch: int, cores: list[int]) -> Iterator[Contestant]:
    """A contestant on these cores; its end is the end of the context."""
    script = Path(__file__).with_name("input_contestant.py")
    command = [sys.executable, str(script), MODULES[name], str(folder), str(batch), ",".join(map(str, cores))]
    with tempfile.TemporaryFile("w+") as messages:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": messages, "text": True}
        with subprocess.Popen(command, **pipes) as process:
            try:
                yield Contestant(name, process, messages)
            finally:
                process.kill()


def measure(folder: Path, *, images: int, batch: int, rounds: int) -> dict[str, Any]:
    """The speed part of the report. images: of the training split, so that a turn is an epoch."""
    batches = images // batch
    contestants, versions, left_out = {}, {}, {}
    with ExitStack() as stack:
        for name, cores in assign_cores().items():
            contestant = stack.enter_context(start(name, folder, batch, cores))
            answer = contestant.answer()
            if "left_out" in answer:
                left_out[name] = answer["left_out"]
            else:
                contestants[name], versions = contestant, versions | answer["versions"]
        taken = list(take_turns(contestants, batches, rounds))
    return {"images_per_turn": batches * batch, "versions": versions, "left_out": left_out, **rates(taken, batches * batch)}


def assign_cores() -> dict[str, list[int]]:
    """The first core that this process may use, which all have in turn, and for TWO_CORES the first two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise EnvironmentNotReady("this process may use one core; lbsgd is measured on one and on two")
    return {name: cores[:2] if name == TWO_CORES else cores[:1] for name in MODULES}


def take_turns(contestants: dict[str, Contestant], batches: int, rounds: int) -> Iterator[dict[str, Any]]:
    """The rounds that count; each begins with another contestant."""
    names = list(contestants)
    for number in range(-WARM_UP_ROUNDS, rounds):
        first = number % len(names)
        order = names[first:] + names[:first]
        turns = {name: contestants[name].take(batches) for name in order}
        click.echo(f"round {number + 1} of {rounds}" if number >= 0 else "warm-up", err=True)
        if number >= 0:
            yield {"order": order, **{key: {name: turns[name][key] for name in names} for key in turns[names[0]]}}


def rates(rounds: list[dict[str, Any]], images: int) -> dict[str, Any]:
    """Images per second of each turn and their medians, and what the rounds' ratios say."""
    for each in rounds:
        each["images_per_second"] = {name: images / seconds for name, seconds in each["seconds"].items()}
    names = rounds[0]["seconds"]
    report = {
        "rounds": rounds,
        "images_per_second": {name: median(each["images_per_second"][name] for each in rounds) for name in names},
        "ratios": {name: compare(rounds, name) for name in TARGETS if name in names},
    }
    if TWO_CORES in names:
        ratios = [each["seconds"][LBSGD] / each["seconds"][TWO_CORES] for each in rounds]
        report["two_cores"] = {**summarise(ratios), "target": SCALING_TARGET}
    return report


def compare(rounds: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """lbsgd's images per second over the other's, by the clock and by the processor time that each was given."""
    by_clock, by_processor = (
        [each[key][name] / each[key][LBSGD] for each in rounds] for key in ("seconds", "processor_seconds")
    )
    return {**summarise(by_clock), "by_processor_time": summarise(by_processor), "target": TARGETS[name]}


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"images/s, medians of {len(report['rounds'])} turns of {report['images_per_turn']} images"]
    lines += [f"{name:>16}{rate:10.1f}" for name, rate in report["images_per_second"].items()]
    lines += [f"{name:>16}  left out: {reason}" for name, reason in report["left_out"].items()]
    rows = [(f"lbsgd / {name}", ratio) for name, ratio in report["ratios"].items()]
    if "two_cores" in report:
        rows.append(("2 cores / 1 core", report["two_cores"]))
    for name, ratio in rows:
        low, high = ratio["interval"]
        target = f", target {ratio['target']}" if ratio["target"] else ""
        lines.append(
            f"{name}: {ratio['median']:.2f}, {100 * ratio['interval_confidence']:.0f} % interval of the median {low:.2f} to "
            f"{high:.2f}, all rounds {ratio['min']:.2f} to {ratio['max']:.2f}{target}"
        )
    return "\n".join(lines)
