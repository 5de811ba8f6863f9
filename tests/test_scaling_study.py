"""A study keeps what it measured, and goes on where it stopped; what the command refuses. No ranks are started here."""

import json
import os

import pytest

from lbsgd.errors import EnvironmentNotReady, Interrupted, UsageError
from lbsgd.launch.hosts import local_slots
from lbsgd.measuring import study as module
from lbsgd.measuring.study import Study, read_study, unfinished_study
from lbsgd.measuring.study_jobs import cause

from .scaling_samples import failing, measured, settings, study


def silent(_: str) -> None: ...


def stopping_at(workers: int):
    """Runs sizes until that one, when Ctrl-C comes."""

    def run_size(framework, count, folder):
        if count == workers:
            raise Interrupted("stopped", 2)
        return measured(framework, count, folder)

    return run_size


def recording(asked: list, run_size=measured):
    def run(framework, workers, folder):
        asked.append((framework, workers))
        return run_size(framework, workers, folder)

    return run


def test_bench_json_has_the_keys_that_other_tools_read(tmp_path):
    content = study(tmp_path / "runs" / "x-bench")
    assert content == json.loads((tmp_path / "runs" / "x-bench" / "bench.json").read_text())
    head = {"schema", "kind", "id", "status", "command", "started", "ended", "settings", "sizes", "environment"}
    assert head <= content.keys()
    assert (content["schema"], content["kind"], content["id"], content["status"]) == (1, "bench", "x-bench", "done")
    asked = {"model": "resnet20", "batch_per_gpu": 32, "precision": "fp32", "gpus": [1, 2, 4], "baseline": 1}
    assert asked.items() <= content["settings"].items()
    two = content["sizes"][1]
    assert {"framework": "torch", "workers": 2, "status": "done", "error": None, "baseline_workers": 1}.items() <= two.items()
    assert two["efficiency"] == pytest.approx(0.5)
    assert two["efficiency_interval"][0] <= two["efficiency"] <= two["efficiency_interval"][1]
    assert set(two["parts_ms"]) == {"compute", "waiting", "communication", "data", "other"}
    assert content["environment"] == {"hosts": ["n1"]}


def test_two_commands_do_not_measure_in_one_study(tmp_path):
    first = Study.create(tmp_path / "x-bench", settings(), "lbsgd bench")
    second = read_study(first.folder)
    with first.alone(), pytest.raises(EnvironmentNotReady, match="at work in .*x-bench; wait for it"), second.alone():
        pass
    with second.alone():
        pass


def test_every_size_is_on_disk_as_soon_as_it_is_measured(tmp_path):
    done = []

    def watching(framework, workers, folder):
        done.append([size["workers"] for size in read_study(folder).sizes if size["status"] == "done"])
        return measured(framework, workers, folder)

    Study.create(tmp_path / "x-bench", settings(), "").run(watching, silent)
    assert done == [[], [1], [1, 2]]


def test_a_study_that_was_stopped_goes_on_with_what_is_missing(tmp_path):
    stopped = Study.create(tmp_path / "x-bench", settings(), "")
    with pytest.raises(Interrupted):
        stopped.run(stopping_at(4), silent)
    found = unfinished_study(tmp_path, settings(), silent)
    assert found.folder == tmp_path / "x-bench"
    assert found.content["status"] == "running"  # as a killed one is left
    asked = []
    found.run(recording(asked), silent)
    assert asked == [("torch", 4)]
    assert read_study(found.folder).content["status"] == "done"
    assert unfinished_study(tmp_path, settings(), silent) is None


def test_a_failed_size_leaves_the_others_and_is_tried_again(tmp_path):
    said, asked = [], []
    one = Study.create(tmp_path / "x-bench", settings(frameworks=("torch", "tensorflow")), "")
    one.run(failing(("torch", 2)), said.append)
    assert "failed: exit code 4: too few | images" in said
    assert [size["status"] for size in one.sizes] == ["done", "failed", "done", "done", "done", "done"]
    assert one.content["status"] == "failed"
    again = unfinished_study(tmp_path, settings(frameworks=("torch", "tensorflow")), silent)
    again.run(recording(asked), silent)
    assert asked == [("torch", 2)]
    assert (again.sizes[1]["status"], again.sizes[1]["error"]) == ("done", None)


def test_efficiency_waits_for_its_baseline(tmp_path):
    one = Study.create(tmp_path / "x-bench", settings(), "")
    one.run(failing(("torch", 1)), silent)
    assert [(size.get("efficiency"), size.get("baseline_workers")) for size in one.sizes[1:]] == [(None, None)] * 2
    one.run(measured, silent)
    assert [size["efficiency"] for size in one.sizes] == pytest.approx([1.0, 0.5, 0.25])


def test_another_baseline_is_kept_apart(tmp_path):
    assert [size["efficiency"] for size in study(tmp_path / "x-bench", baseline=2)["sizes"]] == pytest.approx([2.0, 1.0, 0.5])


@pytest.mark.parametrize(
    "changes",
    [{"gpus": (1, 2)}, {"repeats": 4}, {"steps": None}, {"data": "photos"}, {"baseline": 2}, {"threads_per_worker": 2},
     {"hosts": "a:4"}, {"oversubscribed": True}, {"frameworks": ("tensorflow",)}, {"recipe": {}}],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_other_settings_begin_anew(tmp_path, changes):
    Study.create(tmp_path / "x-bench", settings(), "")
    if changes == {"recipe": {}}:
        changes = {"recipe": settings().recipe | {"batch_per_worker": 64}}
    assert unfinished_study(tmp_path, settings(**changes), silent) is None


def test_other_software_begins_anew(tmp_path, monkeypatch):
    Study.create(tmp_path / "x-bench", settings(), "")
    assert unfinished_study(tmp_path, settings(), silent)
    monkeypatch.setattr(module, "versions", lambda: {"torch": "0.1"})
    assert unfinished_study(tmp_path, settings(), silent) is None


def test_the_newest_of_several_goes_on(tmp_path):
    for name in ("20260101T000000Z-bench", "20260102T000000Z-bench", "20260102T000000Z-bench-2", "20270101T000000Z-train"):
        Study.create(tmp_path / name, settings(), "")
    assert unfinished_study(tmp_path, settings(), silent).folder.name == "20260102T000000Z-bench-2"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": 1}', '{"schema": 99, "status": "running"}', "\xff"])
def test_a_damaged_study_is_named_and_left_alone(tmp_path, text):
    Study.create(tmp_path / "2026-bench", settings(), "")
    (tmp_path / "2027-bench").mkdir()
    (tmp_path / "2027-bench" / "bench.json").write_text(text, encoding="latin-1")
    said = []
    assert unfinished_study(tmp_path, settings(), said.append).folder.name == "2026-bench"
    assert said == [] if text == '{"schema": 1}' else len(said) == 1 and "2027-bench/bench.json" in said[0]
    assert (tmp_path / "2027-bench" / "bench.json").read_text(encoding="latin-1") == text


def test_reading_no_study_is_an_error_for_the_user(tmp_path):
    with pytest.raises(UsageError, match="bench.json cannot be read"):
        read_study(tmp_path)


@pytest.mark.parametrize(
    "log, expected",
    [
        ("warning: x\nError: too few images\n-----\nmpirun noticed\n-----\n", "too few images"),
        ("Traceback\n  File\n-----\nprocess rank 1 exited on signal 9.\n-----\n", "process rank 1 exited on signal 9."),
        ("\n\n", "no output"),
    ],
)
def test_the_cause_is_found_in_what_a_job_said(log, expected):
    assert cause(log) == expected


def test_more_workers_than_slots_are_refused_with_both_ways_on(lbsgd, tmp_path):
    result = lbsgd("bench", "--gpus", "1,5000", "--recipe", "demo", cwd=tmp_path)
    assert result.code == 3
    assert len(result.errors) == 1
    count, of = local_slots()
    assert f"5000 ranks, but this host has {count} {of}" in result.stderr
    for way in ("--oversubscribe", "lbsgd project --gpus 5000"):
        assert way in result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments, said",
    [
        ((), "give the numbers of workers to measure, e.g. --gpus 1,2,4"),
        (("--gpus", "1,1"), "has the same value twice"),
        (("--gpus", "0"), "0 is not in the range x>=1"),
        (("--gpus", "a"), "'a' is not a valid integer range"),
        (("--gpus", "1", "--framework", "jax"), "'jax' is not one of 'torch', 'tensorflow'"),
        (("--gpus", "1", "--baseline", "2"), "--baseline 2 is not among --gpus 1; add it there"),
        (("--gpus", "1", "--hosts", "a:1", "--hostfile", os.devnull), "--hosts and --hostfile both say"),
        (("--gpus", "1", "--require-efficiency", "90"), "90.0 is not in the range 0<x<=2"),
    ],
)
def test_what_is_not_a_study_is_refused(lbsgd, tmp_path, arguments, said):
    result = lbsgd("bench", *arguments, cwd=tmp_path)
    assert result.code == 2
    assert said in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_runs_folder_that_cannot_be_written_is_named(lbsgd, tmp_path):
    (tmp_path / "runs").touch()
    result = lbsgd("bench", "--gpus", 1, "--recipe", "demo", "--runs", "runs/inside", cwd=tmp_path)
    assert result.code == 3
    assert "cannot write runs/inside" in result.stderr
    assert "Traceback" not in result.stderr
