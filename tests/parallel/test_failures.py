"""What goes wrong in real jobs: each failure is one line that says what to do, one exit code, and an end within seconds."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lbsgd.data import open_dataset
from lbsgd.policy.order import Order
from lbsgd.record.checkpoint import list_checkpoints, load_checkpoint
from lbsgd.record.run_record import read_metrics, read_run

BATCH = 32
SMALL = ("--framework", "torch", "--recipe", "demo", "--efficiency-every", 0)


@pytest.fixture
def train(lbsgd, tmp_path):
    """train("--data", ...): two ranks of a small run, in a folder of its own."""

    def train(*arguments: object, np: int = 2, **options):
        return lbsgd("train", "--np", np, "--oversubscribe", *SMALL, *arguments, cwd=tmp_path, **options)

    return train


@pytest.fixture(scope="module")
def finished(lbsgd, digits, tmp_path_factory) -> Path:
    """The folder of a run of two steps by one rank. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    result = lbsgd("train", *SMALL, "--data", digits, "--max-steps", 2, "--run-dir", folder)
    assert result.code == 0, result.stderr
    return folder


@pytest.fixture
def broken_digits(digits, tmp_path) -> Path:
    """A copy of the demo that may be changed."""
    return shutil.copytree(digits, tmp_path / "digits")


def require_one_line(result, code: int, *parts: str) -> None:
    """The job left with `code`, and all it said is one line that holds `parts`."""
    assert result.code == code, result.stderr
    assert result.stdout == ""
    assert len(result.errors) == 1, result.stderr
    assert result.errors[0].startswith("Error: ")
    for part in parts:
        assert part in result.errors[0]


def test_a_missing_data_folder(train):
    require_one_line(train("--data", "absent"), 4, "no folder 'absent'", "lbsgd data demo")


def test_an_empty_data_folder(train, tmp_path):
    (tmp_path / "empty").mkdir()
    require_one_line(train("--data", "empty"), 4, "'empty' has no train/ and no val/")


def test_one_class_only(train, broken_digits):
    for split in ("train", "val"):
        for name in range(1, 10):
            shutil.rmtree(broken_digits / split / str(name))
    require_one_line(train("--data", broken_digits), 4, "has only one class, '0'")


def test_validation_of_other_classes(train, broken_digits):
    (broken_digits / "val" / "9").rename(broken_digits / "val" / "nine")
    require_one_line(train("--data", broken_digits), 4, "only train/ has '9'", "only val/ has 'nine'")


def test_data_that_one_rank_does_not_see(digits, start, finish, tmp_path):
    link = tmp_path / "rank-0"
    link.symlink_to(digits)
    one = ["lbsgd", "train", *SMALL, "--max-steps", 1, "--data", link]
    other = ["lbsgd", "train", *SMALL, "--max-steps", 1, "--data", tmp_path / "rank-1"]
    require_one_line(finish(start_two(start, one, other)), 4, "rank 1 on ", "no folder", "rank-1")


def test_an_unknown_key_of_the_recipe(train, digits):
    require_one_line(train("--data", digits, "--set", "optimizer.momentun=0.8"), 2, "momentun", "did you mean")


def test_a_global_batch_above_the_data_set(train, digits):
    result = train("--data", digits, "--batch-per-gpu", 1000)
    require_one_line(result, 4, "2000", "1442")


def test_more_ranks_than_slots(lbsgd, digits):
    result = lbsgd("train", "--np", 5000, *SMALL, "--data", digits)
    require_one_line(result, 3, "5000 ranks, but this host has", "--oversubscribe")


def test_another_number_of_ranks_than_the_launcher_started(start, finish):
    command = ["lbsgd", "train", *SMALL, "--np", 3]
    result = finish(start_two(start, command, command))
    assert result.code == 2
    assert set(result.errors) == {"Error: --np 3, but mpirun started 2 ranks; leave --np out under a launcher"}


def test_a_framework_that_is_not_installed(train, digits, tmp_path):
    hide = (
        "import importlib.metadata as metadata\n"
        "real = metadata.distribution\n"
        "def distribution(name):\n"
        "    if name == 'torch': raise metadata.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "metadata.distribution = distribution\n"
    )
    (tmp_path / "sitecustomize.py").write_text(hide)
    result = train("--data", digits, env={"PYTHONPATH": str(tmp_path)})
    require_one_line(result, 3, "torch is not installed; pip install 'lbsgd[torch]'")


def test_horovod_built_without_the_framework(train, digits, tmp_path):
    info = tmp_path / "site" / "horovod-0.28.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: horovod\nVersion: 0.28.1\n")
    result = train("--data", digits, env={"PYTHONPATH": str(info.parent)})
    require_one_line(result, 3, "Horovod 0.28.1 was built without torch; run `lbsgd horovod build`")


def test_a_run_folder_that_cannot_be_written(train, digits, tmp_path):
    (tmp_path / "file").touch()
    result = train("--data", digits, "--run-dir", tmp_path / "file" / "run")
    require_one_line(result, 3, "cannot write the run folder", "Not a directory", "or give a writable --run-dir")


def test_a_run_folder_that_is_taken(train, digits, finished):
    require_one_line(train("--data", digits, "--run-dir", finished), 2, "already holds a run", "--resume")


def test_resuming_with_another_model(train, digits, finished):
    result = train("--resume", finished, "--model", "resnet56", np=1)
    require_one_line(result, 5, "is of resnet20, not of resnet56")


def test_resuming_with_other_classes(train, finished, broken_digits):
    for split in ("train", "val"):
        (broken_digits / split / "9").rename(broken_digits / split / "nine")
    result = train("--resume", finished, "--data", broken_digits, np=1)
    require_one_line(result, 5, "was trained on 10 classes (0, 1, 2, ...), the data has 10 (0, 1, 2, ...)")


def test_resuming_on_ranks_that_do_not_divide_the_workers(train, finished):
    require_one_line(train("--resume", finished), 2, "has 1 virtual workers, which do not divide over 2 ranks")


def test_resuming_from_nothing(train, tmp_path):
    require_one_line(train("--resume", "absent"), 2, "no run 'absent' in runs; `lbsgd runs list` shows what there is")


def test_a_damaged_checkpoint(train, finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    damaged = list_checkpoints(copy / "checkpoints")[-1] / "model.safetensors"
    blob = bytearray(damaged.read_bytes())
    blob[-1] ^= 1
    damaged.write_bytes(blob)
    require_one_line(train("--resume", copy, np=1), 5, str(damaged), "is damaged", "there is no other here")


def test_an_unreadable_image_ends_the_run_and_is_named(start, finish, broken_digits, tmp_path):
    source = open_dataset(str(broken_digits)).train
    sample = Order(0, len(source), 2 * BATCH).share(3, rank=1, world_size=2)[5]
    image = broken_digits / source.name(sample)
    image.write_bytes(b"no image")
    run = tmp_path / "run"
    result = finish(start("train", "--np", 2, "--oversubscribe", *SMALL, "--data", broken_digits, "--run-dir", run))
    assert result.code == 4
    assert "Traceback" not in result.stderr
    errors = [line for line in result.errors if line.startswith("Error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("Error: rank 1 on ")
    assert f"cannot read image {str(image)!r}: not an image; replace it, remove it, or train with" in errors[0]
    record = read_run(run)
    assert (record["status"], record["attempts"][-1]["status"]) == ("failed", "failed")
    assert str(image) in record["error"]
    logged = json.loads((run / "logs" / "rank-001" / "error.json").read_text())
    assert logged["rank"] == 1
    assert str(image) in logged["error"]
    assert "UnreadableSample" in "".join(logged["traceback"])
    assert not (run / "logs" / "rank-000").exists()


def start_two(start, first: list, second: list) -> subprocess.Popen:
    """mpirun with another command line for each of two ranks."""
    mpirun = ["--allow-run-as-root", "--oversubscribe", "-np", "1", *first, ":", "-np", "1", *second]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return start(*mpirun, script="mpirun", env={"PATH": path})


def test_ranks_that_disagree(start, finish, digits):
    command = ["lbsgd", "train", *SMALL, "--data", digits]
    result = finish(start_two(start, command, [*command, "--set", "optimizer.momentum=0.8", "--max-steps", 7]))
    require_one_line(
        result, 3, "the ranks disagree: recipe.optimizer.momentum is 0.9 on rank 0", "but 0.8 on rank 1", "stop is"
    )


@pytest.fixture
def begin(start, digits, tmp_path):
    """begin(...): a job of two ranks, training in tmp_path / "run"; whatever is left of it at the end is killed."""
    started = []

    def begin(*arguments: object) -> subprocess.Popen:
        process = start("train", "--np", 2, "--oversubscribe", *SMALL, *arguments)
        started.append(process)
        before = len(read_metrics(tmp_path / "run"))
        deadline = time.monotonic() + 90
        while len(read_metrics(tmp_path / "run")) < before + 5:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        return process

    yield begin
    for process in started:
        for left in [*children(process), process]:
            left.kill()


def children(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []


def steps(run: Path) -> list[int]:
    return [line["step"] for line in read_metrics(run) if line["kind"] == "step"]


def test_a_signal_saves_the_state_and_the_run_goes_on_from_there(begin, finish, digits, tmp_path):
    run = tmp_path / "run"
    position = 0
    for number, code, how in (
        (signal.SIGTERM, 143, ["--data", digits, "--run-dir", run]),
        (signal.SIGINT, 130, ["--resume", run]),
    ):
        process = begin(*how)
        process.send_signal(number)
        result = finish(process, timeout=60)
        assert result.code == code, result.stderr
        assert "Traceback" not in result.stderr
        assert sum("stopped by a signal" in line for line in result.errors) == 1
        saved = list_checkpoints(run / "checkpoints")[-1]
        assert f"state saved in {saved}, resume with --resume {run}" in result.stderr
        assert load_checkpoint(saved)[1]["iteration"] > position
        attempt = read_run(run)["attempts"][-1]
        assert (attempt["status"], attempt["start_iteration"]) == ("interrupted", position)
        position = load_checkpoint(saved)[1]["iteration"]
        assert steps(run) == list(range(position))
    assert len(read_run(run)["attempts"]) == 2


def test_a_rank_that_is_lost_ends_the_job(begin, finish, digits, tmp_path):
    process = begin("--data", digits, "--run-dir", tmp_path / "run")
    ranks = [child for child in children(process) if "OMPI_COMM_WORLD_RANK" in child.environ()]
    assert len(ranks) == 2
    ranks[1].kill()
    result = finish(process, timeout=60)
    assert result.code == 137
    assert "Traceback" not in result.stderr
    psutil.wait_procs(ranks, timeout=10)  # mpirun leaves as soon as it has killed them; the kernel may still be at work
    assert not [rank for rank in ranks if rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE]
