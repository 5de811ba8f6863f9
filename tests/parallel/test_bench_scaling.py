"""`lbsgd bench --gpus` with real ranks: what it measures, and what becomes of it when something goes wrong on the way."""

import json
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from statistics import fmean

import psutil
import pytest

from lbsgd.data import open_dataset
from lbsgd.launch.horovod.installed import FRAMEWORKS, installed_frameworks
from lbsgd.policy.order import Order

from .ranks import run_program

SHORT = ("--recipe", "demo", "--steps", 4, "--warm-up", 2, "--repeats", 2, "--hosts", "localhost:2")
LONG = ("--recipe", "demo", "--steps", 20, "--warm-up", 2, "--repeats", 3, "--hosts", "localhost:2")
PARAMETERS = 272_474  # ResNet-20 for small images, 10 classes
SYNTHETIC_PARAMETERS = PARAMETERS + 990 * 65  # 1000 classes


def study_in(folder: Path) -> dict:
    [file] = (folder / "runs").glob("*-bench/bench.json")
    return json.loads(file.read_text())


def statuses(study: dict) -> list[str]:
    return [size["status"] for size in study["sizes"]]


@pytest.fixture(scope="module")
def both(lbsgd, tmp_path_factory):
    """A finished study of the frameworks that are installed on 1 and 2 workers: (what the command said, its folder)."""
    folder = tmp_path_factory.mktemp("both")
    names = ",".join(name for name in FRAMEWORKS if name in installed_frameworks())
    result = lbsgd("bench", "--gpus", "1,2", "--framework", names, *SHORT, "--json", cwd=folder, timeout=300)
    assert result.code == 0, result.stderr
    return result, folder


def test_a_study_is_complete(both):
    result, folder = both
    study = json.loads(result.stdout)
    assert study == study_in(folder)
    assert (study["schema"], study["kind"], study["status"]) == (1, "bench", "done")
    frameworks = study["settings"]["frameworks"]
    assert [(size["framework"], size["workers"]) for size in study["sizes"]] == [(f, n) for f in frameworks for n in (1, 2)]
    assert set(statuses(study)) == {"done"}
    assert study["environment"]["versions"]["horovod"]
    [where] = (folder / "runs").iterdir()
    assert sorted(file.name for file in where.iterdir()) == ["bench.csv", "bench.json", "bench.md", "bench.png", "logs"]
    assert sum("warning" in line.lower() for line in result.errors) == 0


def test_measurements_fit_each_other(both):
    for size in study_in(both[1])["sizes"]:
        workers = size["workers"]
        assert len(size["repeats"]) == 2
        for one in size["repeats"]:
            assert one["images_per_step"] == 32 * workers
            assert one["gradient_bytes"] == 4 * SYNTHETIC_PARAMETERS
            assert [rank["rank"] for rank in one["ranks"]] == list(range(workers))
            assert len(one["step_ms"]) == 4
            slowest = max(rank["step_ms"] for rank in one["ranks"])
            assert sum(one["step_ms"]) == pytest.approx(4 * slowest)
            assert (one["allreduce_ms"] is None) == (workers == 1)
            assert all(rank["data_ms"] + rank["other_ms"] < rank["step_ms"] for rank in one["ranks"])
            assert len(one["efficiencies"]) == (0 if workers == 1 else 1)
        mean = fmean(rank["step_ms"] for one in size["repeats"] for rank in one["ranks"])
        assert sum(size["parts_ms"].values()) == pytest.approx(mean)
        assert size["images_per_second_per_worker"] == pytest.approx(size["images_per_second"] / workers)
        assert size["step_ms"]["p50"] <= size["step_ms"]["p90"]


def test_one_worker_communicates_nothing(both):
    for size in study_in(both[1])["sizes"]:
        parts = size["parts_ms"]
        if size["workers"] == 1:
            assert (size["efficiency"], size["efficiency_interval"]) == (1.0, [1.0, 1.0])
            assert (parts["communication"], parts["waiting"], size["allreduce_ms"]) == (0.0, 0.0, None)
        else:
            low, high = size["efficiency_interval"]
            assert 0 < low <= size["efficiency"] <= high
            assert size["allreduce_ms"] > 0


@pytest.mark.slow
def test_a_finished_study_is_not_gone_on_with_and_a_missed_requirement_is_exit_code_6(lbsgd, tmp_path):
    command = ("bench", "--gpus", 1, *SHORT, "--require-efficiency")
    first = lbsgd(*command, 1.0, cwd=tmp_path)
    assert first.code == 0, first.stderr
    assert "100.0 %" in first.stdout
    missed = lbsgd(*command, 1.5, cwd=tmp_path)
    assert missed.code == 6
    assert missed.errors[-1] == "Error: --require-efficiency 1.5 is missed: 100.0 % (torch, 1 workers)"
    assert len(list((tmp_path / "runs").iterdir())) == 2


@pytest.fixture
def fifty_digits(digits, tmp_path) -> Path:
    """Five images of each class."""
    folder = tmp_path / "fifty"
    for image in [file for kind in digits.glob("*/*") if kind.is_dir() for file in sorted(kind.iterdir())[:5]]:
        copy = folder / image.relative_to(digits)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, copy)
    return folder


@pytest.mark.slow
def test_a_size_that_fails_is_named_with_its_cause_and_only_it_is_tried_again(lbsgd, fifty_digits, tmp_path):
    command = ("bench", "--gpus", "1,2", *SHORT, "--repeats", 1, "--data", fifty_digits)
    result = lbsgd(*command, cwd=tmp_path)
    cause = "global batch 64 (2 workers x 32 images) is larger than the 50 training images"
    assert result.code == 3
    assert result.errors[-1].startswith(f"Error: no figure for torch with 2: exit code 4: {cause}")
    assert result.errors[-1].endswith("the same command retries only these")
    study = study_in(tmp_path)
    assert (study["status"], statuses(study)) == ("failed", ["done", "failed"])
    assert study["sizes"][0]["efficiency"] == 1.0
    assert cause in study["sizes"][1]["error"]
    assert f"torch with 2 failed: exit code 4: {cause}" in result.stdout

    again = lbsgd(*command, cwd=tmp_path)
    assert again.code == 3
    assert again.errors[0].startswith("resuming runs/")
    assert again.errors[1] == "torch, 2 workers ..."
    assert not [line for line in again.errors if line.startswith("torch, 1")]
    assert study_in(tmp_path)["sizes"][0] == study["sizes"][0]


@pytest.mark.slow
@pytest.mark.parametrize("iteration", [1, 3], ids=["alone", "together"])
def test_an_image_that_one_rank_cannot_read_ends_the_size(lbsgd, digits, tmp_path, iteration):
    """While each worker is timed alone nobody else notices, and while they are together Horovod does."""
    folder = shutil.copytree(digits, tmp_path / "digits")
    source = open_dataset(str(folder)).train
    image = folder / source.name(Order(0, len(source), 64).share(iteration, rank=1, world_size=2)[0])
    image.write_bytes(b"no image")
    result = lbsgd("bench", "--gpus", 2, *SHORT, "--data", folder, cwd=tmp_path, timeout=60)
    assert result.code == 3
    error = study_in(tmp_path)["sizes"][0]["error"]
    assert "rank 1 on " in error
    assert f"cannot read image {str(image)!r}" in error


@pytest.mark.slow
def test_more_workers_than_slots_is_no_scaling_figure(lbsgd, tmp_path):
    command = ("bench", "--gpus", 2, *SHORT, "--repeats", 1, "--hosts", "localhost:1", "--oversubscribe")
    result = lbsgd(*command, cwd=tmp_path)
    assert result.code == 0, result.stderr
    assert "NOT a scaling figure" in result.stdout
    assert study_in(tmp_path)["settings"]["oversubscribed"] is True


@pytest.fixture
def at_two_workers(start, tmp_path):
    """Start a study of 1 and 2 workers: (its process, its two ranks) once both of these are at work."""
    started = []

    def begin() -> tuple:
        process = start("bench", "--gpus", "1,2", *LONG, cwd=tmp_path)
        started.append(process)
        deadline = time.monotonic() + 90
        while len(ranks := ranks_in(tmp_path)) < 2 or not all(rank.num_threads() > 2 for rank in ranks):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        return process, ranks

    yield begin
    for process in started:
        process.kill()
    for rank in ranks_in(tmp_path):
        rank.kill()


def ranks_in(folder: Path) -> list[psutil.Process]:
    """The ranks of a size of two workers of a study in this folder, by their command lines."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "rank" in line and any(str(folder) in word and "-0002" in word for word in line) and "mpirun" not in line[0]:
            found.append(process)
    return found


@pytest.mark.slow
def test_a_study_that_was_stopped_and_killed_goes_on(at_two_workers, lbsgd, finish, tmp_path):
    process, ranks = at_two_workers()
    process.send_signal(signal.SIGINT)
    result = finish(process, timeout=30)
    assert result.code == 130, result.stderr
    assert result.errors[-1] == "Error: the study was stopped; the same command resumes it"
    assert psutil.wait_procs(ranks, timeout=10)[1] == []
    study = study_in(tmp_path)
    assert (study["status"], statuses(study)) == ("interrupted", ["done", "pending"])

    process, ranks = at_two_workers()
    process.kill()
    assert psutil.wait_procs(ranks, timeout=20)[1] == []
    assert (study_in(tmp_path)["status"], finish(process).code) == ("running", -signal.SIGKILL)

    last = lbsgd("bench", "--gpus", "1,2", *LONG, cwd=tmp_path)
    assert last.code == 0, last.stderr
    assert last.errors[0].startswith("resuming runs/")
    assert last.errors[1] == "torch, 2 workers ..."
    assert study_in(tmp_path)["sizes"][0] == study["sizes"][0]
    assert statuses(study_in(tmp_path)) == ["done", "done"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_measured_step_exchanges_what_another_does_and_computes_the_same(framework, tmp_path):
    if framework not in installed_frameworks():
        pytest.skip(f"{framework} is not installed")
    told, sent = {}, {}
    for kind in ("ordinary", "measured"):
        timeline = tmp_path / f"{kind}.json"
        done = run_program(2, Path(__file__).with_name("exchange_gradients.py"), framework, str(timeline), kind)
        told[kind] = json.loads(done.stdout.split("REPORT", 1)[1])
        sent[kind] = summed(timeline)
    assert told["measured"] == told["ordinary"]
    assert (told["measured"]["bytes"], told["measured"]["parameters"]) == (4 * PARAMETERS, PARAMETERS)
    assert sent["measured"] == sent["ordinary"]
    assert sum(sent["measured"].values()) > 60


def summed(timeline: Path) -> Counter:
    """Arrays that Horovod summed, (dtype, shape) with their number."""
    names, found = {}, Counter()
    for event in json.loads(timeline.read_text()):
        about = event.get("args", {})
        if event.get("name") == "process_name" and "name" in about:
            names[event["pid"]] = about["name"]
        elif "dtype" in about and not names[event["pid"]].startswith("broadcast"):
            found[about["dtype"], about["shape"]] += 1
    return found
