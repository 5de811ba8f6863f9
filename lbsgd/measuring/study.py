"""A bench study: one job for each framework and number of workers, and bench.json, which says how far it came.

Every finished size is in bench.json at once. A study that was stopped or had sizes that failed goes on when it is asked for
again with the same settings and software.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lbsgd.errors import EnvironmentNotReady, UsageError
from lbsgd.measuring.figures import efficiency, size_figures
from lbsgd.record.atomic import write_json
from lbsgd.record.environment import versions
from lbsgd.record.run_record import utc_now

SCHEMA = 1
FILE = "bench.json"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured. recipe: as JSON. baseline: workers of the size that the others are held against.

    threads_per_worker: of a worker's arithmetic, the same for every size; None on GPUs.
    """

    gpus: tuple[int, ...]
    frameworks: tuple[str, ...]
    recipe: dict[str, Any]
    data: str
    repeats: int
    steps: int | None
    warm_up: int
    oversubscribed: bool
    hosts: str | None
    interface: str | None = None
    baseline: int
    threads_per_worker: int | None


@dataclass(frozen=True)
class Result:
    """How one job ended: its measurements and what it ran on, or the error, in one line."""

    repeats: list[dict[str, Any]]
    environment: dict[str, Any] | None
    error: str | None


RunSize = Callable[[str, int, Path], Result]
"""Runs a job: (framework, workers, folder of the study)."""


class Study:
    """A study in its folder. content: what bench.json holds."""

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self.folder, self.content = folder, content

    @classmethod
    def create(cls, folder: Path, settings: Settings, command: str) -> "Study":
        """A new study, nothing measured yet."""
        pending: list[dict[str, Any]] = [
            {"framework": framework, "workers": workers, "status": "pending", "error": None, "repeats": []}
            for framework in settings.frameworks
            for workers in settings.gpus
        ]
        about = {"schema": SCHEMA, "kind": "bench", "id": folder.name, "status": "running", "command": command}
        times = {"started": utc_now(), "ended": None}
        software = {"settings": _plain(settings), "versions": versions(), "environment": None}
        study = cls(folder, {**about, **times, **software, "sizes": pending})
        study.write()
        return study

    @property
    def sizes(self) -> list[dict[str, Any]]:
        return self.content["sizes"]

    @property
    def missing(self) -> list[dict[str, Any]]:
        """The sizes that have no result."""
        return [size for size in self.sizes if size["status"] != "done"]

    def run(self, run_size: RunSize, say: Callable[[str], None]) -> None:
        """Measure what is missing, writing each result as it comes. A size that fails leaves the others as they are."""
        self.content |= {"status": "running", "ended": None}
        self.write()
        for size in self.missing:
            say(f"{size['framework']}, {size['workers']} worker{'s' if size['workers'] > 1 else ''} ...")
            result = run_size(size["framework"], size["workers"], self.folder)
            size |= {"status": "failed" if result.error else "done", "error": result.error, "repeats": result.repeats}
            if result.error:
                say(f"failed: {result.error}")
            self.content["environment"] = self.content["environment"] or result.environment
            self._derive()
            self.write()
        self.end("failed" if self.missing else "done")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other commands out of the study meanwhile.

        Raises EnvironmentNotReady when another is at work in it.
        """
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        try:
            lock = FileLock(logs / "lock").acquire(timeout=0)
        except Timeout as error:
            raise EnvironmentNotReady(
                f"another lbsgd bench is at work in {self.folder}; wait for it, or start over with --new"
            ) from error
        with lock:
            yield

    def end(self, status: str) -> None:
        """Close the study as done, failed or interrupted."""
        self.content |= {"status": status, "ended": utc_now()}
        self.write()

    def write(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / FILE, self.content)
        except OSError as error:
            raise EnvironmentNotReady(f"cannot write {self.folder}: {error.strerror}; give a writable --runs") from error

    def _derive(self) -> None:
        """Figures of all finished sizes anew: efficiency may have waited for its baseline."""
        workers = self.content["settings"]["baseline"]
        done = [size for size in self.sizes if size["status"] == "done"]
        baselines = {size["framework"]: size["repeats"] for size in done if size["workers"] == workers}
        for size in done:
            baseline = baselines.get(size["framework"])
            value, interval = efficiency(size["repeats"], baseline) if baseline else (None, None)
            size |= size_figures(size["repeats"])
            size |= {"efficiency": value, "efficiency_interval": interval and list(interval)}
            size |= {"baseline_workers": workers if baseline else None}


def unfinished_study(runs: Path, settings: Settings, say: Callable[[str], None]) -> Study | None:
    """The newest study in the runs folder with these settings and software that is not done; `say` names unreadable ones."""
    wanted = {"settings": _plain(settings), "versions": versions()}
    for file in sorted(runs.glob(f"*-bench*/{FILE}"), reverse=True):
        try:
            study = read_study(file.parent)
        except UsageError as error:
            say(f"warning: {error}; it is skipped")
            continue
        if wanted.items() <= study.content.items() and study.content["status"] != "done":
            return study
    return None


def read_study(folder: Path) -> Study:
    """The study in a folder.

    Raises UsageError when there is none or it cannot be read.
    """
    try:
        content = json.loads((folder / FILE).read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / FILE} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise UsageError(f"{folder / FILE} is not a study of this version (schema {SCHEMA})")
    return Study(folder, content)


def _plain(settings: Settings) -> dict[str, Any]:
    """bench.json's `settings`, with what most readers look for beside the whole recipe."""
    recipe = settings.recipe
    short = {"model": recipe["model"], "batch_per_gpu": recipe["batch_per_worker"], "precision": recipe["precision"]}
    return json.loads(json.dumps(asdict(settings) | short))
