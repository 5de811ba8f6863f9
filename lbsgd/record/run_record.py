"""The record of a run: run.json, replaced atomically, and metrics.jsonl, one object a line.

run.json is written before the first step and says at any time how far the run is. Its keys are fixed, because other tools
read them.
"""

import json
import math
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO, Unpack

import psutil

from lbsgd.errors import EnvironmentNotReady, LbsgdError, UsageError
from lbsgd.record.atomic import write_atomically, write_json
from lbsgd.record.run_content import Attempt, Process, RecipeChange, RunContent, RunStatus
from lbsgd.record.summary import summarise, summarise_attempt

SCHEMA = "lbsgd.run/1"

SAME_START = 2.0
"""Seconds by which two readings of a process's start may differ, when the clock was set in between."""


def utc_now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class RunRecord:
    """One run's folder. Only rank 0 holds one."""

    def __init__(self, folder: Path, content: RunContent) -> None:
        self.folder = folder
        self.content = content
        self._metrics: TextIO | None = None

    @classmethod
    def create(cls, folder: Path) -> "RunRecord":
        """Make the folder of a new run; its record is written by `begin`.

        Raises EnvironmentNotReady when the folder cannot be written, UsageError when it holds a run already.
        """
        if (folder / "run.json").exists():
            raise UsageError(f"{folder} already holds a run; give another --run-dir, or resume with --resume {folder}")
        with _writing(folder):
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        return cls(folder, {"schema": SCHEMA, "id": folder.name, "status": "running", "error": None, "attempts": []})

    @classmethod
    def open(cls, folder: Path) -> "RunRecord":
        """The record of an existing run."""
        return cls(folder, read_run(folder))

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def update(self, **parts: Unpack[RunContent]) -> None:
        """Set top-level keys of run.json and write it."""
        self.content.update(parts)
        self.write()

    def begin(self, iteration: int, facts: RunContent, changes: Sequence[RecipeChange] = ()) -> None:
        """Record that an attempt begins at `iteration`: the run's first, or another one.

        facts: the parts of run.json that are known by now; framework, command, world and environment among them. The run keeps
        the command of its first attempt. changes: of the recipe since the attempt before.
        """
        if self.content["status"] == "running" and self.content["attempts"]:
            self._note_killed()  # elsewhere, where nobody could tell
        self._rewind(iteration)
        attempt: Attempt = {
            "started": utc_now(),
            "ended": None,
            "status": "running",
            "start_iteration": iteration,
            "framework": facts["framework"],
            "world_size": facts["world"]["size"],
            "error": None,
            "command": facts["command"],
            "world": facts["world"],
            "recipe_changes": list(changes),
            "environment": facts["environment"],
            "process": this_process(),
        }
        command = self.content.get("command", facts["command"])
        self.content.update({**facts, "command": command})
        self.content.update(
            {"status": "running", "error": None, "attempts": [*self.content["attempts"], attempt], "scaling_baseline": None}
        )
        self.summarise()

    def note_startup(self, seconds: dict[str, float]) -> None:
        """Record how long the current attempt took to its first step, by part."""
        self.content["attempts"][-1]["startup"] = seconds
        self.write()

    def end(self, status: RunStatus, error: str | None = None) -> None:
        """Close the current attempt and with it the run: "done", "failed" or "interrupted", and why, with all its figures."""
        last = self.content["attempts"][-1]
        last["ended"], last["status"], last["error"] = utc_now(), status, error
        self.content.update({"status": status, "error": error})
        self.summarise()

    def summarise(self) -> None:
        """Bring the figures of run.json up to what metrics.jsonl tells."""
        lines = read_metrics(self.folder)
        own = summarise_attempt(self.content, lines)
        self.content["attempts"][-1].update({"throughput": own["throughput"], "scaling": own["scaling"]})
        self.update(**summarise(self.content, lines))

    def _note_killed(self) -> None:
        """An attempt that was killed cannot say so itself."""
        last = self.content["attempts"][-1]
        last["status"] = "killed"
        self.content.update({"status": "killed", "error": None})
        self.summarise()

    def write(self) -> None:
        with _writing(self.folder):
            write_json(self.folder / "run.json", self.content)

    def log(self, kind: str, **values: Any) -> None:
        """Append one line to metrics.jsonl. A number that is not finite becomes null."""
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        with _writing(self.folder):
            if self._metrics is None:
                self._metrics = (self.folder / "metrics.jsonl").open("a", buffering=1)
            self._metrics.write(json.dumps({"kind": kind, **finite}) + "\n")

    def _rewind(self, iteration: int) -> None:
        """Drop the lines of steps from `iteration` on, which are taken again."""
        kept = [line for line in read_metrics(self.folder) if line["step"] < iteration]
        with _writing(self.folder):
            write_atomically(self.folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept).encode())


def this_process() -> Process:
    """As an attempt keeps it."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def is_gone(process: Process) -> bool:
    """Whether a process of this host has ended; False where it is another host's."""
    if process["host"] != socket.gethostname():
        return False
    try:
        return abs(psutil.Process(process["pid"]).create_time() - process["started"]) > SAME_START
    except psutil.NoSuchProcess:
        return True


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn a failed write into an EnvironmentNotReady that names the run's folder."""
    try:
        yield
    except OSError as error:
        raise EnvironmentNotReady(
            f"cannot write the run folder {folder}: {error.strerror}; make room or give a writable --run-dir"
        ) from error


def read_run(folder: Path) -> RunContent:
    """The content of a run's run.json. A run whose process was killed on this host is recorded as killed by that.

    Raises UsageError when there is none or it cannot be read.
    """
    try:
        content: Any = json.loads((folder / "run.json").read_text())
    except FileNotFoundError:
        raise UsageError(f"{folder} is not a run: it has no run.json; `lbsgd runs list` shows the runs") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / 'run.json'} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise UsageError(f"{folder / 'run.json'} is not a record of this version (schema {SCHEMA})")
    record = RunContent(**content)
    if record["status"] == "running" and (process := record["attempts"][-1].get("process")) and is_gone(process):
        with suppress(LbsgdError):  # where it cannot be written, it is told all the same
            RunRecord(folder, record)._note_killed()
    return record


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; a last line cut short by a crash is left out."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    if not isinstance(value, dict):
        return {name: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= flatten(inner, f"{name}.{key}" if name else key)
    return flat
