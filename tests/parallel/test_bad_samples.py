"""`--bad-samples` on two real ranks: what each finds, both know, and the record says."""

import os
import shutil
from pathlib import Path

import pytest

from lbsgd.data import open_dataset
from lbsgd.record.run_record import read_metrics, read_run
from tests.conftest import SCRIPT

RECIPE = ["--framework", "torch", "--recipe", "demo", "--epochs", 2]
SMALL = ["--efficiency-every", 0, "--oversubscribe", "--np", 2]


@pytest.fixture
def damaged(digits, tmp_path) -> tuple[Path, set[str], str]:
    """A copy of the digits, the names of its three bad training images and of its bad validation image."""
    root = Path(shutil.copytree(digits, tmp_path / "damaged"))
    dataset = open_dataset(str(root))
    names = [dataset.train.name(sample) for sample in (5, 700, 1400)]
    bad_validation = dataset.validation.name(100)
    (root / names[0]).write_bytes(b"")
    (root / names[1]).write_text("a note, not an image\n")
    (root / names[2]).write_bytes((root / names[2]).read_bytes()[:60])
    (root / bad_validation).write_bytes(b"\x89PNG")
    return root, {str(root / name) for name in names}, str(root / bad_validation)


def test_replaced_images_are_counted_and_named_and_the_run_ends_well(lbsgd, damaged, tmp_path):
    root, bad, bad_validation = damaged
    run = tmp_path / "run"
    result = lbsgd("train", *RECIPE, *SMALL, "--data", root, "--run-dir", run, "--bad-samples", "replace:3", timeout=200)
    assert result.code == 0, result.stderr
    record = read_run(run)
    assert record["bad_samples"] == {"policy": "replace:3", "train": 3, "val": 1}
    assert record["final"]["samples"] == 354
    lines = [line for line in read_metrics(run) if line["kind"] == "bad_sample"]
    assert {line["name"] for line in lines if line["split"] == "train"} == bad
    assert [line["name"] for line in lines if line["split"] == "val"] == [bad_validation]
    assert len(lines) == 4
    for line in lines:
        assert result.stderr.count(f"cannot read image {line['name']!r}: {line['reason']}") == 1
    evaluation = lbsgd("eval", run, "--np", 2, "--oversubscribe", "--bad-samples", "replace", "--json")
    assert '"samples": 354' in evaluation.stdout and '"unreadable": 1' in evaluation.stdout
    assert lbsgd("eval", run).code == 4
    together = lbsgd("--allow-run-as-root", "--oversubscribe", "-np", 2, SCRIPT, "eval", run, script="mpirun", timeout=60)
    assert together.code == 4  # the rank without a bad image does not wait for the other one
    assert f"cannot read image {bad_validation!r}" in together.stderr


def test_one_more_than_allowed_ends_the_run(lbsgd, damaged, tmp_path):
    root, _, _ = damaged
    run = tmp_path / "run"
    result = lbsgd("train", *RECIPE, *SMALL, "--data", root, "--run-dir", run, "--bad-samples", "replace:2", timeout=200)
    assert result.code == 4
    assert "Traceback" not in result.stderr
    errors = [line for line in result.errors if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "3 images cannot be read, --bad-samples replace:2 allows 2" in errors[0]
    assert read_run(run)["status"] == "failed"


def test_a_fifo_in_an_images_place_is_named_at_once(lbsgd, damaged, tmp_path):
    """It is put there after the listing, which would have skipped it: the run's first step waits for the test."""
    root, bad, _ = damaged
    image = Path(sorted(bad)[0])
    listed = open_dataset(str(root))
    image.unlink()
    os.mkfifo(image)
    sample = next(i for i in range(len(listed.train)) if listed.train.name(i) == str(image.relative_to(root)))
    with pytest.raises(Exception, match="not a regular file") as caught:
        listed.train.read(sample)
    assert str(image) in str(caught.value)


def test_a_policy_that_is_none_is_a_usage_error_said_once(lbsgd, digits, tmp_path):
    result = lbsgd("train", *RECIPE, *SMALL, "--data", digits, "--bad-samples", "ignore", cwd=tmp_path)
    assert result.code == 2
    assert [line for line in result.errors if "Error" in line] == [
        "Error: --bad-samples 'ignore': give fail, replace, or replace:N with N the most that may be replaced"
    ]
    assert list(tmp_path.iterdir()) == []
