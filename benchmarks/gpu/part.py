"""Runs one part of the check as a process. Part NAME is the function `run` of the module part_NAME."""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[1]
NO_GPU = "no GPU"


@dataclass
class Part:
    """What a part is told, and what it found: `content` is in the file after every finding."""

    output: Path
    device: str
    rehearse: bool
    seconds: float
    scratch: Path
    kit: Path
    content: dict[str, Any] = field(default_factory=lambda: {"checks": {}, "skipped": {}})
    started: float = field(default_factory=time.monotonic)

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    @property
    def seconds_left(self) -> float:
        return self.seconds - (time.monotonic() - self.started)

    def record(self, **values: Any) -> None:
        """Keep measurements by name."""
        self.content |= values
        self._write()

    def check(self, name: str, passed: bool, **facts: Any) -> None:
        """Keep a yes or no with what it was judged by."""
        self.content["checks"][name] = {"passed": bool(passed), **facts}
        self._write()

    def target(self, name: str, value: float, least: float) -> None:
        """Keep a measurement that is to reach a target. A rehearsal measures something else and judges nothing."""
        self.check(name, self.rehearse or value >= least, value=value, target=least)

    def skip(self, name: str, reason: str) -> None:
        """Keep that something was not done."""
        self.content["skipped"][name] = reason
        self._write()

    def _write(self) -> None:
        partial = self.output.with_suffix(".partial")
        partial.write_text(json.dumps(self.content))
        partial.replace(self.output)


def run_lbsgd(part: Part, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """`lbsgd ...` as a user types it, in the scratch folder.

    Raises CalledProcessError after printing what it said, TimeoutExpired when the part's time is over.
    """
    command = [str(Path(sys.executable).with_name("lbsgd")), *map(str, arguments)]
    options = {"capture_output": True, "text": True, "cwd": part.scratch, "timeout": max(1.0, part.seconds_left)}
    done = subprocess.run(command, env=os.environ | variables, **options)
    print("$ lbsgd", *arguments, f"-> {done.returncode}", flush=True)
    if done.returncode != 0:
        print(done.stdout, done.stderr, flush=True)
        done.check_returncode()
    return done


def train(part: Part, folder: str, *arguments: object, **variables: str) -> Path:
    """Run `lbsgd train` into a run folder of this name and return it."""
    path = part.scratch / folder
    run_lbsgd(part, "train", "--framework", "torch", "--run-dir", path, *arguments, **variables)
    return path


def record_of(run: Path) -> dict[str, Any]:
    """A run's run.json."""
    return json.loads((run / "run.json").read_text())


def losses_of(run: Path) -> list[float]:
    """A run's losses in the order of its iterations."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--kit", type=Path, required=True)
    given = vars(parser.parse_args())
    sys.path.insert(1, str(BENCHMARKS))
    importlib.import_module(f"part_{given.pop('name')}").run(Part(**given))


if __name__ == "__main__":
    main()
