"""`lbsgd doctor` with real ranks on this host: started by it, or by a launcher."""

import json
import os
import sys
import time

import pytest

from lbsgd.doctor.rank import time_limit
from lbsgd.launch import mpirun
from lbsgd.launch.horovod.installed import installed_frameworks
from lbsgd.launch.job import Job

FRAMEWORK = ("--framework", next(iter(installed_frameworks()), "torch"))
QUICK = (*FRAMEWORK, "--timeout", 100)


def statuses(report: dict) -> dict[str, str]:
    return {finding["check"]: finding["status"] for finding in report["findings"]}


def test_this_host_is_ready(lbsgd, tmp_path, digits):
    result = lbsgd("doctor", *QUICK, "--oversubscribe", "--runs", tmp_path / "runs", "--data", digits, "--json")
    assert result.code == 0, result.stdout
    report = json.loads(result.stdout)
    assert (report["schema"], report["ready"]) == (1, True)
    assert all(set(one) == {"check", "host", "status", "found", "why", "advice"} for one in report["findings"])
    assert {statuses(report)[check] for check in ("python", "mpi", "data", "disk", "world size", "allreduce (MPI)")} == {"ok"}
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_said_with_what_to_do(lbsgd, tmp_path):
    result = lbsgd("doctor", *QUICK, "--oversubscribe", "--runs", tmp_path, "--data", tmp_path / "nothing")
    assert result.code == 3
    lines = result.stdout.splitlines()
    at = lines.index(f"problem   data: localhost: no folder '{tmp_path}/nothing'")
    assert lines[at + 1].startswith("          why: ")
    assert lines[at + 2].startswith("          do:  ")
    assert lines[-1].startswith("not ready: 1 problem")


def test_ranks_of_a_launcher_examine_themselves(finish, start, tmp_path, digits):
    command = (mpirun.console_script(), "doctor", *QUICK, "--runs", tmp_path, "--data", digits, "--json")
    job = Job(np=2, command=tuple(map(str, command)), oversubscribe=True)
    program, *arguments = mpirun.render(job, os.environ)
    result = finish(start(*arguments, script=program))
    assert result.code == 0, result.stdout + result.stderr
    report = json.loads(result.stdout)
    assert statuses(report)["world size"] == statuses(report)[f"allreduce (Horovod with {FRAMEWORK[1]})"] == "ok"


def test_a_rank_whose_world_is_smaller_than_its_launcher_said(lbsgd, tmp_path):
    result = lbsgd("doctor", *QUICK, "--runs", tmp_path, "--json", env={"PMI_SIZE": "2", "PMI_RANK": "0"})
    assert result.code == 3
    [finding] = json.loads(result.stdout)["findings"]
    assert finding["check"] == "world size"
    assert finding["found"].startswith("hydra started 2 ranks, but MPI sees 1")
    other = lbsgd("doctor", *QUICK, "--runs", tmp_path, "--json", env={"PMI_SIZE": "2", "PMI_RANK": "1"})
    assert (other.code, other.stdout) == (3, "")


@pytest.mark.slow
def test_ranks_that_do_not_meet_are_ended_and_told(lbsgd, tmp_path, monkeypatch):
    launcher = tmp_path / "mpirun"
    hang = f'{sys.executable} -c "import time; time.sleep(600)"'
    launcher.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "mpirun (Open MPI) 4.1.8" || {hang}\n')
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    result = lbsgd("doctor", *FRAMEWORK, "--oversubscribe", "--runs", tmp_path, "--timeout", 8, "--json", timeout=60)
    assert result.code == 3
    [finding] = [one for one in json.loads(result.stdout)["findings"] if one["check"] == "world size"]
    assert finding["found"] == "asked 2, started 0, met none within 8 s"


def test_a_stage_that_does_not_end_ends_the_process(finish, start):
    program = "import time; from lbsgd.doctor.rank import time_limit\nwith time_limit(0.5, 'waiting'): time.sleep(60)"
    result = finish(start("-c", program, script=sys.executable))
    assert result.code == 3
    assert result.stderr.startswith("Error: no end of waiting within 0.5 s on ")


def test_a_stage_that_ends_in_time_ends_nothing():
    with time_limit(0.2, "nothing"):
        pass
    time.sleep(0.4)


@pytest.mark.parametrize("arguments", [("--hosts", "a:1", "--hostfile", "/dev/null"), ("--recipe", "nothing"), ("--np", "0")])
def test_what_cannot_be_meant_is_a_usage_error(lbsgd, arguments):
    assert lbsgd("doctor", *arguments).code == 2
