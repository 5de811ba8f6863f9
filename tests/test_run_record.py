import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbsgd.errors import EnvironmentNotReady, UsageError
from lbsgd.record.run_record import RunRecord, read_metrics, read_run, utc_now
from lbsgd.record.runs_folder import new_folder

from .report_samples import write_run, write_study
from .run_samples import WORLD, facts

ROOT = Path(__file__).parents[1]


def create(folder, **more) -> RunRecord:
    record = RunRecord.create(folder)
    record.begin(0, facts(**more))
    return record


def test_a_new_record_is_on_disk_before_anything_else(hostile_dir):
    folder = hostile_dir / "run"
    create(folder)
    found = read_run(folder)
    [attempt] = found["attempts"]
    expected = {"ended": None, "status": "running", "start_iteration": 0, "framework": "torch", "world_size": 2}
    expected |= {"command": "lbsgd train", "world": WORLD, "environment": {"cores": 2}, "recipe_changes": []}
    assert attempt | expected == attempt
    assert (attempt["process"]["host"], attempt["process"]["pid"]) == (socket.gethostname(), os.getpid())
    assert found | {"schema": "lbsgd.run/1", "id": "run", "status": "running", "error": None, **facts()} == found
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "metrics.jsonl", "run.json"]


def test_a_folder_that_holds_a_run_is_left_alone(tmp_path):
    create(tmp_path / "run", framework="first")
    with pytest.raises(UsageError, match="already holds a run; give another --run-dir, or resume with --resume"):
        RunRecord.create(tmp_path / "run")
    assert read_run(tmp_path / "run")["framework"] == "first"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentNotReady, match="cannot write the run folder .*file/run: Not a directory; make room"):
        RunRecord.create(tmp_path / "file" / "run")


@pytest.mark.parametrize("write", [lambda record: record.log("step", step=0), lambda record: record.end("done")])
def test_a_folder_that_goes_away_is_named(tmp_path, write):
    record = create(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(EnvironmentNotReady, match="cannot write the run folder .*run: No such file or directory"):
        write(record)


@pytest.mark.parametrize("status, error", [("done", None), ("failed", "the cause"), ("interrupted", "SIGTERM")])
def test_the_end_is_recorded(tmp_path, status, error):
    record = create(tmp_path / "run")
    record.end(status, error)
    found = read_run(tmp_path / "run")
    assert (found["status"], found["error"]) == (status, error)
    assert found["attempts"][0]["status"] == status
    assert abs(datetime.now(UTC) - datetime.fromisoformat(found["attempts"][0]["ended"])).total_seconds() < 60


def test_another_process_can_end_a_record(tmp_path):
    create(tmp_path / "run")
    RunRecord.open(tmp_path / "run").end("failed", "rank 1 said so")
    assert read_run(tmp_path / "run")["error"] == "rank 1 said so"


def test_updates_add_up(tmp_path):
    record = create(tmp_path / "run")
    record.update(profile={"first": 2})
    record.update(scaling_baseline={"efficiency": 0.9})
    found = read_run(tmp_path / "run")
    assert (found["profile"], found["scaling_baseline"]) == ({"first": 2}, {"efficiency": 0.9})


def test_a_number_that_json_does_not_have_never_reaches_run_json(tmp_path):
    record = create(tmp_path / "run")
    with pytest.raises(ValueError):
        record.update(final={"loss": math.nan})
    assert read_run(tmp_path / "run")["final"] is None


def test_lines_are_readable_while_the_run_goes_on(tmp_path):
    record = create(tmp_path / "run")
    assert read_metrics(tmp_path / "run") == []
    record.log("step", step=0, lr=0.1, loss=2.3)
    record.log("eval", step=0, top1_error=0.5)
    assert read_metrics(tmp_path / "run") == [
        {"kind": "step", "step": 0, "lr": 0.1, "loss": 2.3},
        {"kind": "eval", "step": 0, "top1_error": 0.5},
    ]


@settings(deadline=None, max_examples=30)
@given(values=st.lists(st.floats(), max_size=5))
def test_a_line_holds_the_very_number_or_null(tmp_path_factory, values):
    record = create(tmp_path_factory.mktemp("floats") / "run")
    for step, value in enumerate(values):
        record.log("step", step=step, loss=value)
    found = [line["loss"] for line in read_metrics(record.folder)]
    assert found == [value if math.isfinite(value) else None for value in values]
    assert not re.search("nan|inf", (record.folder / "metrics.jsonl").read_text() if values else "", re.IGNORECASE)


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path):
    record = create(tmp_path / "run")
    record.log("step", step=0, loss=1.0)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [0]


def test_going_on_takes_back_the_later_lines_and_adds_an_attempt(tmp_path):
    first = create(tmp_path / "run")
    for step in range(5):
        first.log("step", step=step, loss=1.0)
    first.log("eval", step=2, epoch=1.0, top1_error=0.5, loss=1.0, samples=10)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')
    first.end("interrupted", "stopped by a signal")

    second = RunRecord.open(tmp_path / "run")
    second.begin(3, facts(framework="tensorflow"))
    second.log("step", step=3, loss=2.0)
    lines = read_metrics(tmp_path / "run")
    assert [(line["kind"], line["step"]) for line in lines] == [("step", 0), ("step", 1), ("step", 2), ("eval", 2), ("step", 3)]
    assert lines[-1]["loss"] == 2.0
    found = read_run(tmp_path / "run")
    assert (found["status"], found["error"], found["framework"]) == ("running", None, "tensorflow")
    assert [attempt["status"] for attempt in found["attempts"]] == ["interrupted", "running"]
    assert [attempt["start_iteration"] for attempt in found["attempts"]] == [0, 3]


def test_an_attempt_that_was_killed_is_marked_by_the_next(tmp_path):
    create(tmp_path / "run")
    RunRecord.open(tmp_path / "run").begin(0, facts())
    assert [attempt["status"] for attempt in read_run(tmp_path / "run")["attempts"]] == ["killed", "running"]


MAKE_AND_WAIT = """
import pathlib, sys, time
from lbsgd.record.run_record import RunRecord
from tests.run_samples import facts
record = RunRecord.create(pathlib.Path(sys.argv[1]))
record.begin(0, facts())
for step in range(20):
    record.log("step", step=step, epoch=step / 20, lr=0.1, loss=1.0, step_ms=10.0, data_ms=1.0, other_ms=0.5)
record.log("eval", step=19, epoch=1.0, top1_error=0.125, loss=1.0, samples=10)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("look", [read_run, lambda folder: RunRecord.open(folder).content])
def test_a_run_whose_process_was_killed_says_so_with_what_it_had_measured(tmp_path, look):
    command = [sys.executable, "-c", MAKE_AND_WAIT, str(tmp_path / "run")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        assert look(tmp_path / "run")["status"] == "running"
        process.kill()
    for found in (look(tmp_path / "run"), json.loads((tmp_path / "run" / "run.json").read_text())):
        assert (found["status"], found["attempts"][0]["status"]) == ("killed", "killed")
        assert found["final"]["top1_error"] == 0.125
        assert found["throughput"]["images_per_second"] == pytest.approx(6400)


def test_a_process_of_another_host_or_another_start_is_told_apart(tmp_path):
    record = create(tmp_path / "run")
    [attempt] = record.content["attempts"]
    elsewhere = attempt["process"] | {"host": "elsewhere", "pid": 1}
    record.update(attempts=[attempt | {"process": elsewhere}])
    assert read_run(tmp_path / "run")["status"] == "running"  # who knows
    later = attempt["process"] | {"started": attempt["process"]["started"] - 1000}
    record.update(attempts=[attempt | {"process": later}])
    assert read_run(tmp_path / "run")["status"] == "killed"  # the number belongs to another process now


def test_a_write_cut_short_leaves_the_old_record(tmp_path, monkeypatch):
    record = create(tmp_path / "run")

    def killed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        record.update(framework="other")
    assert read_run(tmp_path / "run")["framework"] == "torch"


@pytest.mark.parametrize(
    "content, says",
    [
        (None, "is not a run: it has no run.json"),
        ("{", "cannot be read"),
        ("\xff", "cannot be read"),
        ("[]", "not a record of this version"),
        ('{"schema": "lbsgd.run/9"}', "not a record of this version"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path, content, says):
    if content is not None:
        (tmp_path / "run.json").write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=says):
        read_run(tmp_path)


def test_new_folders_do_not_meet(tmp_path):
    folders = []
    for _ in range(3):
        folders.append(new_folder(tmp_path, "demo-torch"))
        folders[-1].mkdir()
    assert len(set(folders)) == 3
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-demo-torch(-\d)?", folder.name) for folder in folders)


def test_time_is_utc():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", utc_now())


def runs_under(root):
    for name, status in (("a", "done"), ("b", "failed")):
        record = create(root / name, framework=name)
        record.log("eval", step=0, epoch=1.0, top1_error=0.125, loss=1.0, samples=10)
        record.end(status)


def test_runs_list_shows_every_run(lbsgd, tmp_path):
    runs_under(tmp_path / "runs")
    listed = lbsgd("runs", "list", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[:2] for line in listed[1:]] == [["a", "done"], ["b", "failed"]]
    assert "12.50 %" in listed[1]
    records = json.loads(lbsgd("runs", "list", "--json", cwd=tmp_path).stdout)
    assert [record["id"] for record in records] == ["a", "b"]


def test_runs_list_shows_dates_rounded_figures_and_studies_too(lbsgd, tmp_path):
    write_run(tmp_path / "runs" / "big", workers=8)
    write_study(tmp_path / "runs" / "x-bench", gpus=(8, 16))
    listed = lbsgd("runs", "list", cwd=tmp_path).stdout.splitlines()
    run = next(line for line in listed if line.startswith("big"))
    assert "86.6 % ± 1.5" in run
    assert " 2,000 " in run
    assert f" {utc_now()[:10]} " in run
    study = next(line for line in listed if line.startswith("x-bench"))
    assert study.split()[1] in ("done", "failed")
    assert "8,16" in study
    assert re.search(r"\d\d\.\d % ± \d", study)
    ids = [record["id"] for record in json.loads(lbsgd("runs", "list", "--json", cwd=tmp_path).stdout)]
    assert sorted(ids) == ["big", "x-bench"]


def test_runs_compare_says_the_ratio_and_what_differs_before_it(lbsgd, tmp_path):
    write_run(tmp_path / "runs" / "a", workers=8)
    record = write_run(tmp_path / "runs" / "b", workers=16)
    record.update(throughput=record.content["throughput"] | {"images_per_second_per_worker": 225.0})
    values = json.loads(lbsgd("runs", "compare", "a", "b", "--json", cwd=tmp_path).stdout)["values"]
    assert values["ratio.images_per_second_per_worker"] == [1.0, 0.9]
    keys = list(values)
    assert values["world.size"] == [8, 16]
    assert keys.index("world.size") < keys.index("throughput.images_per_second")


def test_runs_list_without_runs_says_so(lbsgd, tmp_path):
    result = lbsgd("runs", "list", cwd=tmp_path)
    assert (result.code, result.stdout) == (0, "")
    assert "no runs in runs" in result.stderr


def test_one_unreadable_record_does_not_hide_the_others(lbsgd, tmp_path):
    runs_under(tmp_path / "runs")
    (tmp_path / "runs" / "a" / "run.json").write_text("{")
    result = lbsgd("runs", "list", cwd=tmp_path)
    assert result.code == 0
    assert result.stdout.splitlines()[1].startswith("b")
    assert "a/run.json cannot be read" in result.stderr


def test_runs_show_takes_a_name_a_folder_or_latest(lbsgd, tmp_path):
    runs_under(tmp_path / "runs")
    for run, expected in (("a", "a"), ("runs/a", "a"), ("latest", "b")):
        assert json.loads(lbsgd("runs", "show", run, "--json", cwd=tmp_path).stdout)["id"] == expected
    assert "final.top1_error" in lbsgd("runs", "show", "a", cwd=tmp_path).stdout


def test_latest_is_what_was_started_last_whatever_its_name(lbsgd, tmp_path):
    for name, month in (("z-first", 1), ("a-last", 3), ("m", 2)):
        record = create(tmp_path / "runs" / name)
        record.update(attempts=[{**record.content["attempts"][0], "started": f"2026-{month:02}-01T00:00:00Z"}])
    assert json.loads(lbsgd("runs", "show", "latest", "--json", cwd=tmp_path).stdout)["id"] == "a-last"
    listed = lbsgd("runs", "list", cwd=tmp_path).stdout.splitlines()[1:]
    assert [line.split()[0] for line in listed] == ["z-first", "m", "a-last"]


def test_runs_show_of_no_run_suggests_one(lbsgd, tmp_path):
    create(tmp_path / "runs" / "20260101T000000Z-demo")
    result = lbsgd("runs", "show", "20260101T000000Z-dem", cwd=tmp_path)
    assert result.code == 2
    assert "did you mean '20260101T000000Z-demo'?" in result.stderr


def test_runs_compare_shows_results_and_what_differs(lbsgd, tmp_path):
    runs_under(tmp_path / "runs")
    compared = json.loads(lbsgd("runs", "compare", "a", "b", "--json", cwd=tmp_path).stdout)
    assert compared["runs"] == ["a", "b"]
    assert compared["values"]["framework"] == ["a", "b"]
    assert compared["values"]["final.top1_error"] == [0.125, 0.125]
    assert "recipe.model" not in compared["values"]
    result = lbsgd("runs", "compare", "a", cwd=tmp_path)
    assert (result.code, result.stderr.count("at least two runs")) == (2, 1)
