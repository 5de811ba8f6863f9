"""TensorBoard and MLflow as places that a run's metrics go to as well; metrics.jsonl stays the truth.

A logger never holds training up: it works on a thread of its own, and when it fails, or is too slow to end, it says so once
and the run goes on without it.
"""

import importlib.util
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from lbsgd.errors import EnvironmentNotReady, UsageError
from lbsgd.record.run_record import flatten

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow"}
GROUPS = {"step": "train", "eval": "validation", "speed": "speed", "efficiency": "efficiency"}
LEFT_OUT = {"step", "data_ms", "other_ms"}
"""Values of a line that are no curve of their own: the steps of a large run are many."""
OPENING_SECONDS = 30.0
"""Training waits this long, so that importing a client does not disturb the steps that are timed first."""
CLOSING_SECONDS = 30.0
MLFLOW_BATCH = 500
"""Metrics in a request; MLflow allows 1000."""
MLFLOW_PERIOD = 5.0
"""Seconds between two requests."""
MLFLOW_PARAMETER = 500
"""Characters of a parameter's value that every MLflow server takes."""


class Scalar(NamedTuple):
    """A metric's value at a step. seconds: since the epoch, when it was logged."""

    name: str
    value: float
    step: int
    seconds: float


class Writer(Protocol):
    """Where scalars go. Opened, written and closed on one thread; may raise anything."""

    def write(self, scalars: list[Scalar]) -> None:
        """Take some more."""

    def close(self, status: str) -> None:
        """status: how the run ended, "done", "failed" or "interrupted"."""


def parse_loggers(text: str) -> tuple[str, ...]:
    """The loggers of --log-to, such as "tensorboard,mlflow"; none in an empty text.

    Raises UsageError for a name that is none, EnvironmentNotReady where its package is missing.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in PACKAGES:
            raise UsageError(f"--log-to {name!r}: give {' or '.join(PACKAGES)}, or both with a comma between them")
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise EnvironmentNotReady(f"--log-to {name} needs {PACKAGES[name]}; pip install 'lbsgd[{name}]'")
    return names


def open_loggers(
    names: Iterable[str], folder: Path, facts: Mapping[str, Any], start: int, warn: Callable[[str], None]
) -> "Loggers":
    """Start the loggers called `names` for the run in `folder`. On rank 0 only.

    facts: of run.json, from which parameters are taken. start: the iteration that the run begins with, or goes on from: what
    was logged from there on is superseded. warn: is given a line when a logger has failed.
    """
    openers: dict[str, Callable[..., Writer]] = {"tensorboard": _TensorBoard, "mlflow": _MLflow}
    loggers = [_Logger(name, partial(openers[name], folder, facts, start), warn) for name in names]
    deadline = time.monotonic() + OPENING_SECONDS
    for logger in loggers:
        logger.opened.wait(max(0.0, deadline - time.monotonic()))
    return Loggers(loggers)


class Loggers:
    """Any number of loggers as one."""

    def __init__(self, loggers: list["_Logger"]) -> None:
        self._loggers = loggers

    def log(self, kind: str, values: Mapping[str, Any]) -> None:
        """Pass on the numbers of a line of metrics.jsonl; `values` has its step. Returns at once, raises nothing."""
        if kind not in GROUPS or not self._loggers:
            return
        now = time.time()
        scalars = [
            Scalar(f"{GROUPS[kind]}/{name}", float(value), values["step"], now)
            for name, value in values.items()
            if name not in LEFT_OUT and isinstance(value, int | float) and not isinstance(value, bool)
        ]
        for logger in self._loggers:
            logger.put(scalars)

    def results(self, values: Mapping[str, float], step: int) -> None:
        """What the run came to, after its last step."""
        now = time.time()
        for logger in self._loggers:
            logger.put([Scalar(f"result/{name}", value, step, now) for name, value in values.items()])

    def close(self, status: str) -> None:
        """Write what is left and end, within CLOSING_SECONDS; the run has ended as `status` says."""
        for logger in self._loggers:
            logger.end(status)
        deadline = time.monotonic() + CLOSING_SECONDS
        for logger in self._loggers:
            logger.wait(deadline)


class _Logger:
    """One logger and its thread."""

    def __init__(self, name: str, open_writer: Callable[[], Writer], warn: Callable[[str], None]) -> None:
        self._name, self._open, self._warn = name, open_writer, warn
        self._waiting: queue.SimpleQueue[list[Scalar] | str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"logger-{name}", daemon=True)
        self._failed = False
        self.opened = threading.Event()
        self._thread.start()

    def put(self, scalars: list[Scalar]) -> None:
        if not self._failed:
            self._waiting.put(scalars)

    def end(self, status: str) -> None:
        self._waiting.put(status)

    def wait(self, deadline: float) -> None:
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._warn(f"--log-to {self._name} did not end within {CLOSING_SECONDS:g} s; metrics.jsonl has everything")

    def _run(self) -> None:
        try:
            writer = self._open()
            self.opened.set()
            while not isinstance(item := self._waiting.get(), str):
                writer.write(item)
            writer.close(item)
        except BaseException as error:  # whatever a client library or its server does, training goes on
            self._failed = True
            self.opened.set()
            reason = str(error).strip().splitlines() or [type(error).__name__]
            self._warn(f"--log-to {self._name} failed and is left out from now on: {reason[0]}; metrics.jsonl has everything")


class _TensorBoard:
    """Event files in the run's folder, under tensorboard/."""

    def __init__(self, folder: Path, facts: Mapping[str, Any], start: int) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start or None)
        rows = "\n".join(f"| {name} | {value} |" for name, value in parameters(facts).items())
        self._writer.add_text("run", f"| parameter | value |\n|---|---|\n{rows}", start)

    def write(self, scalars: list[Scalar]) -> None:
        for scalar in scalars:
            self._writer.add_scalar(scalar.name, scalar.value, scalar.step, walltime=scalar.seconds)

    def close(self, status: str) -> None:
        self._writer.close()


class _MLflow:
    """A run where MLFLOW_TRACKING_URI says, else in mlflow.db beside the run's folder; found again by its tag when it goes on.

    See them with `mlflow server --backend-store-uri sqlite:///runs/mlflow.db`.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], start: int) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=_tracking_uri(folder))
        self._run = self._find(folder) or self._create(folder)
        self._client.update_run(self._run, status="RUNNING")
        self._client.log_batch(self._run, params=_mlflow_parameters(self._client, self._run, facts))
        self._waiting: list[Scalar] = []
        self._sent = time.monotonic()

    def _find(self, folder: Path) -> str | None:
        experiment = self._client.get_experiment_by_name(_experiment())
        if experiment is None:
            return None
        found = self._client.search_runs([experiment.experiment_id], f"tags.`lbsgd.run` = '{_tag(folder)}'", max_results=1)
        return found[0].info.run_id if found else None

    def _create(self, folder: Path) -> str:
        experiment = self._client.get_experiment_by_name(_experiment())
        number = experiment.experiment_id if experiment else self._client.create_experiment(_experiment())
        run = self._client.create_run(number, run_name=folder.name, tags={"lbsgd.run": _tag(folder)})
        return str(run.info.run_id)

    def write(self, scalars: list[Scalar]) -> None:
        self._waiting += scalars
        if len(self._waiting) >= MLFLOW_BATCH or time.monotonic() - self._sent >= MLFLOW_PERIOD:
            self._send()

    def _send(self) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(one.name, one.value, int(1000 * one.seconds), one.step) for one in self._waiting]
        for first in range(0, len(metrics), MLFLOW_BATCH):
            self._client.log_batch(self._run, metrics=metrics[first : first + MLFLOW_BATCH])
        self._waiting, self._sent = [], time.monotonic()

    def close(self, status: str) -> None:
        self._send()
        self._client.set_terminated(self._run, {"done": "FINISHED", "interrupted": "KILLED"}.get(status, "FAILED"))


def _tracking_uri(folder: Path) -> str | None:
    return None if "MLFLOW_TRACKING_URI" in os.environ else f"sqlite:///{folder.absolute().parent / 'mlflow.db'}"


def _experiment() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME", "lbsgd")


def _tag(folder: Path) -> str:
    return folder.name.replace("'", "")


def _mlflow_parameters(client: Any, run: str, facts: Mapping[str, Any]) -> list[Any]:
    """Those that the run does not have yet: MLflow keeps the first value of a parameter for good."""
    from mlflow.entities import Param

    known = client.get_run(run).data.params
    return [Param(name, str(value)[:MLFLOW_PARAMETER]) for name, value in parameters(facts).items() if name not in known]


def parameters(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What distinguishes a run, by name: {"recipe.model": "resnet50", "world.size": 8, ...}."""
    chosen = ("framework", "data", "recipe", "schedule")
    return flatten({name: facts[name] for name in chosen} | {"world": {"size": facts["world"]["size"]}})
