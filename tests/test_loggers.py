"""TensorBoard and MLflow as places that metrics go to: what arrives there, and that none of them can hurt a run."""

import struct
import threading

import pytest

from lbsgd.errors import EnvironmentNotReady, UsageError
from lbsgd.record import loggers
from lbsgd.record.loggers import Loggers, open_loggers, parse_loggers

FACTS = {
    "framework": "torch",
    "data": "/data",
    "recipe": {"model": "resnet50", "decay": {"at": ["30ep", "60ep"]}},
    "schedule": {"peak_lr": 3.2},
    "world": {"size": 8, "hosts": ["node00"]},
}


@pytest.fixture
def warnings() -> list[str]:
    return []


def log_some(log: Loggers, steps: range) -> None:
    for step in steps:
        log.log("step", {"step": step, "epoch": step / 10, "lr": 0.1, "loss": 1.0 / (step + 1)})
    log.log("eval", {"step": steps[-1], "epoch": 1.0, "top1_error": 0.25, "samples": 100})


def test_names_are_checked(monkeypatch):
    assert parse_loggers("") == ()
    with pytest.raises(UsageError, match="--log-to 'wandb': give tensorboard or mlflow"):
        parse_loggers("wandb")
    monkeypatch.setattr(loggers, "PACKAGES", {"tensorboard": "no_such_package"})
    with pytest.raises(EnvironmentNotReady, match=r"needs no_such_package; pip install 'lbsgd\[tensorboard\]'"):
        parse_loggers("tensorboard")


def test_tensorboard_has_the_numbers_and_the_parameters(hostile_dir, warnings):
    log = open_loggers(parse_loggers("tensorboard, tensorboard"), hostile_dir, FACTS, 0, warnings.append)
    log_some(log, range(10))
    log.log("bad_sample", {"step": 3, "name": "x.JPEG"})
    log.log("eval", {"step": 9, "loss": None, "top1_error": 0.2})
    log.close("done")
    assert warnings == []
    (file,) = (hostile_dir / "tensorboard").iterdir()
    found = scalars(file.read_bytes())
    assert found["train/loss"] == pytest.approx({step: 1.0 / (step + 1) for step in range(10)})
    assert found["validation/top1_error"] == pytest.approx({9: 0.2})
    assert set(found) == {"train/epoch", "train/lr", "train/loss", "validation/epoch", "validation/top1_error",
                          "validation/samples"}  # fmt: skip
    assert b"recipe.model | resnet50" in file.read_bytes()


def scalars(content: bytes) -> dict[str, dict[int, float]]:
    """The scalars of an event file, by tag and step; a record is its length, a checksum, an event, a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = {}
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + size])
        content = content[16 + size :]
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_mlflow_has_the_numbers_and_goes_on_with_its_run(tmp_path, warnings, monkeypatch):
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "it's a run"
    folder.mkdir()
    for start, status in ((0, "interrupted"), (10, "done")):
        log = open_loggers(parse_loggers("mlflow"), folder, FACTS, start, warnings.append)
        log_some(log, range(start, start + 10))
        log.close(status)
    assert warnings == []
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("lbsgd")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("it's a run", "FINISHED")
    assert run.data.params["recipe.model"] == "resnet50"
    history = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "train/loss")}
    assert history == pytest.approx({step: 1.0 / (step + 1) for step in range(20)})


class Broken:
    """A writer that fails at its first scalar."""

    def __init__(self, *_: object) -> None:
        pass

    def write(self, scalars: list) -> None:
        raise ConnectionError("no route to the server\nmore")


class Hanging(Broken):
    """A writer whose server never answers."""

    def write(self, scalars: list) -> None:
        threading.Event().wait()


def test_a_sink_that_fails_says_so_once_and_the_others_go_on(tmp_path, warnings, monkeypatch):
    monkeypatch.setattr(loggers, "_MLflow", Broken)
    log = open_loggers(("mlflow", "tensorboard"), tmp_path, FACTS, 0, warnings.append)
    log_some(log, range(10))
    log.close("done")
    assert warnings == [
        "--log-to mlflow failed and is left out from now on: no route to the server; metrics.jsonl has everything"
    ]
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert len(scalars(file.read_bytes())["train/loss"]) == 10


def test_a_sink_that_cannot_be_opened_holds_nothing_up(tmp_path, warnings):
    (tmp_path / "run").write_text("a file where the folder should be")
    log = open_loggers(("tensorboard",), tmp_path / "run", FACTS, 0, warnings.append)
    log_some(log, range(3))
    log.close("failed")
    assert len(warnings) == 1
    assert "--log-to tensorboard failed" in warnings[0]


def test_a_sink_that_hangs_costs_no_step_and_little_at_the_end(tmp_path, warnings, monkeypatch):
    monkeypatch.setattr(loggers, "_MLflow", Hanging)
    monkeypatch.setattr(loggers, "CLOSING_SECONDS", 0.2)
    log = open_loggers(("mlflow",), tmp_path, FACTS, 0, warnings.append)
    log_some(log, range(1000))  # the server never answers: whoever waited for it would wait here
    log.close("done")
    assert warnings == ["--log-to mlflow did not end within 0.2 s; metrics.jsonl has everything"]
