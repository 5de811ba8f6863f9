"""A run that was stopped in mid-epoch goes on as if it had not been: on as many ranks, on fewer, in the other framework."""

import json
from pathlib import Path

import numpy as np
import pytest

from lbsgd.record.checkpoint import list_checkpoints, load_checkpoint
from lbsgd.record.run_record import read_metrics, read_run

from ..run_samples import without_times

END, STOP, AFTER = 30, 13, 5
EPOCH = 22  # 1442 images / (2 ranks x 32 images)


@pytest.fixture(scope="module")
def train(lbsgd):
    """train(...): ranks of the demo; the run must succeed."""

    def train(*arguments: object, np: int = 2, framework: str = "torch", **options) -> None:
        command = ["train", "--framework", framework, "--efficiency-every", 0, "--np", np, "--oversubscribe", *arguments]
        result = lbsgd(*command, timeout=300, **options)
        assert result.code == 0, result.stderr

    return train


@pytest.fixture(scope="module")
def runs(train, digits, tmp_path_factory) -> Path:
    return whole_and_parted(train, digits, tmp_path_factory.mktemp("runs"), "torch")


def whole_and_parted(train, digits: Path, root: Path, framework: str) -> Path:
    """`whole`: END steps at once. `parted`: stopped after STOP of them, in mid-epoch, and resumed."""
    begin = ("--recipe", "demo", "--data", digits.name)
    train(*begin, "--run-dir", root / "whole", "--max-steps", END, framework=framework, cwd=digits.parent)
    train(*begin, "--run-dir", root / "parted", "--max-steps", STOP, framework=framework, cwd=digits.parent)
    train("--resume", root / "parted", "--max-steps", END, framework=framework)
    return root


def steps(run: Path) -> list[dict]:
    return [line for line in read_metrics(run) if line["kind"] == "step"]


def losses(lines: list[dict]) -> list[float]:
    return [line["loss"] for line in lines]


def checkpoint(run: Path):
    return load_checkpoint(list_checkpoints(run / "checkpoints")[-1])


def test_it_ends_as_the_run_without_a_stop(runs):
    whole, parted = steps(runs / "whole"), steps(runs / "parted")
    assert [line["step"] for line in parted] == list(range(END))
    for key in ("step", "epoch", "lr"):
        assert [line[key] for line in parted] == [line[key] for line in whole]
    assert losses(parted) == pytest.approx(losses(whole), rel=1e-6)
    assert [attempt["start_iteration"] for attempt in read_run(runs / "parted")["attempts"]] == [0, STOP]

    (one, about), (other, same) = checkpoint(runs / "whole"), checkpoint(runs / "parted")
    assert about["iteration"] == same["iteration"] == END
    for expected, found in ((one.model, other.model), (one.velocity, other.velocity)):
        assert expected.keys() == found.keys()
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def close(found: object, expected: object, where: str) -> None:
    """That two records are equal, their floats to rounding."""
    if isinstance(expected, dict):
        assert isinstance(found, dict) and found.keys() == expected.keys(), where
        for key in expected:
            close(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-5), where
    else:
        assert found == expected, where


@pytest.mark.parametrize("framework", ["torch", pytest.param("tensorflow", marks=pytest.mark.slow)])
def test_two_attempts_leave_the_record_of_one(runs, train, digits, framework, tmp_path):
    root = runs if framework == "torch" else whole_and_parted(train, digits, tmp_path, framework)
    whole, parted = without_times(root / "whole"), without_times(root / "parted")
    assert whole["status"] == parted["status"] == "done"
    assert whole["final"]["top1_error"] is not None
    close(parted, whole, "run.json")


def test_the_evaluation_at_the_end_of_the_epoch_is_the_same(runs):
    """The stop averaged batch norm's statistics in mid-epoch, which must not change their mean at its end."""
    (one,), (other,) = (
        [line for line in read_metrics(runs / name) if line["kind"] == "eval" and line["epoch"] == 1]
        for name in ("whole", "parted")
    )
    assert one["step"] == other["step"] == EPOCH - 1
    assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert other["top1_error"] == one["top1_error"]


@pytest.mark.parametrize("np, framework", [(1, "torch"), (2, "tensorflow")], ids=["one rank", "other framework"])
def test_another_run_branches_off_elsewhere_with_the_same_samples(runs, train, np, framework):
    before = sorted((path, path.stat().st_mtime_ns) for path in (runs / "parted").rglob("*"))
    older = runs / "parted" / "checkpoints" / f"iteration-{STOP:08d}"
    branches = runs / "branches" / framework
    train("--resume", older, "--runs", branches, "--max-steps", STOP + AFTER, np=np, framework=framework)
    assert sorted((path, path.stat().st_mtime_ns) for path in (runs / "parted").rglob("*")) == before

    (branch,) = branches.iterdir()
    expected, found = steps(runs / "whole")[STOP : STOP + AFTER], steps(branch)
    assert [(line["step"], line["lr"]) for line in found] == [(line["step"], line["lr"]) for line in expected]
    assert losses(found) == pytest.approx(losses(expected), rel=1e-3)
    record = read_run(branch)
    assert (record["framework"], record["world"]["size"], record["world"]["accumulate"]) == (framework, np, 2 // np)
    assert record["world"]["virtual_workers"] == 2
    assert [attempt["start_iteration"] for attempt in record["attempts"]] == [STOP]


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_a_checkpoint_is_evaluated_to_the_recorded_error(runs, lbsgd, framework):
    result = lbsgd("eval", runs / "whole", "--framework", framework, "--json", timeout=300)
    assert result.code == 0, result.stderr
    found, recorded = json.loads(result.stdout), read_run(runs / "whole")["final"]
    assert (found["samples"], found["framework"]) == (recorded["samples"], framework)
    assert found["top1_error"] == recorded["top1_error"]
    assert found["loss"] == pytest.approx(recorded["loss"], rel=1e-4)
