"""Starting ranks of a test's own program."""

import json
import os
import subprocess
import sys
from pathlib import Path

from lbsgd.launch import mpirun
from lbsgd.launch.job import Job


def run_ranks(count: int, command: list[str], *, cwd: Path | None = None, timeout: float = 240) -> subprocess.CompletedProcess:
    """Run `command` as `count` ranks of one thread each and return the finished mpirun; fails the test when it fails."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LBSGD_")} | {"OMP_NUM_THREADS": "1"}
    job = Job(np=count, command=tuple(command), oversubscribe=True)
    done = subprocess.run(
        mpirun.render(job, environment), env=environment, cwd=cwd, timeout=timeout, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def run_program(count: int, program: Path, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess:
    """Run a Python file as `count` ranks. -P: its folder must not shadow installed packages."""
    return run_ranks(count, [sys.executable, "-P", str(program), *arguments], timeout=timeout)


def train(count: int, run_dir: Path, *arguments: str, timeout: float = 240) -> list[dict]:
    """Run `lbsgd train` as `count` ranks and return the lines of its metrics.jsonl."""
    run_ranks(count, [mpirun.console_script(), "train", "--run-dir", str(run_dir), *arguments], timeout=timeout)
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def step_losses(metrics: list[dict]) -> list[float]:
    """The losses of a run's steps in order, after checking that none is missing."""
    steps = [line for line in metrics if line["kind"] == "step"]
    assert [line["step"] for line in steps] == list(range(len(steps)))
    return [line["loss"] for line in steps]
