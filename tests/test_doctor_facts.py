"""What a host tells of itself, and how it is asked."""

import json
import shlex
import socket
from pathlib import Path

import numpy as np
import pytest

from lbsgd.commands.doctor import facts as facts_command
from lbsgd.doctor import storage
from lbsgd.doctor.gather import connection, is_here
from lbsgd.doctor.machine import cpu_quota
from lbsgd.doctor.request import Question
from lbsgd.models import describe
from lbsgd.models.initialization import initial_arrays
from lbsgd.models.state import State
from lbsgd.record.checkpoint import save_checkpoint


def question(folder: Path, **changes) -> Question:
    settings = {"folder": folder, "runs": folder / "runs", "mark": ".mark", "mpirun": None, "peers": (), "data": None}
    return Question(**settings | changes)


def test_a_host_tells_all_sections_as_json(lbsgd, tmp_path, digits):
    (tmp_path / ".mark").touch()
    asked = question(tmp_path, data=str(digits), peers=("localhost", "no.such.host.invalid"), mpirun="/no/mpirun")
    result = lbsgd("doctor", "facts", *asked.arguments())
    assert result.code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [name for line in lines for name in line] == ["clock", "software", "mpi", "machine", "network", "storage", "data"]
    told = {name: section for line in lines for name, section in line.items()}
    assert told["mpi"]["launcher"] is None
    assert told["network"]["interfaces"]["lo"]["addresses"] == ["127.0.0.1/8"]
    assert told["network"]["routes"]["localhost"]["interface"] == "lo"
    assert "error" in told["network"]["routes"]["no.such.host.invalid"]
    assert told["storage"]["sees_mark"] is True
    assert told["storage"]["error"] is None
    assert told["data"]["train"]["samples"] == 1442
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mark"]


def test_a_question_survives_a_remote_shell(hostile_dir):
    asked = question(hostile_dir, data=str(hostile_dir / "data"), peers=("node1", "node2"), mpirun=str(hostile_dir / "mpirun"))
    words = shlex.split(shlex.join(asked.arguments()))
    assert Question(**facts_command.make_context("facts", words).params) == asked


def test_this_host_is_known_by_each_of_its_names():
    assert all(map(is_here, ("localhost", "127.0.0.1", socket.gethostname())))
    assert not is_here("192.0.2.77")
    assert not is_here("no.such.host.invalid")


def test_hosts_are_asked_as_mpirun_reaches_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    slurm = {"SLURM_JOB_ID": "17"}
    ssh = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
    assert connection("localhost", slurm) == ("here", [])
    assert connection("192.0.2.77", slurm) == ("ssh", [*ssh, "192.0.2.77"])
    arguments = {"OMPI_MCA_plm_rsh_args": "-o ConnectionAttempts=10"}
    assert connection("192.0.2.77", arguments) == ("ssh", [*ssh, "-o", "ConnectionAttempts=10", "192.0.2.77"])
    (tmp_path / "srun").touch(mode=0o755)
    through, command = connection("192.0.2.77", slurm)
    assert (through, command[0], command[-2:]) == ("srun", "srun", ["sh", "-c"])
    assert "--nodelist=192.0.2.77" in command


@pytest.mark.parametrize(
    "own, files, expected",
    [
        ("0::/job/task\n", {"job/cpu.max": "200000 100000\n", "job/task/cpu.max": "max 100000\n"}, 2.0),
        ("0::/job/task\n", {"job/cpu.max": "200000 100000\n", "job/task/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/job\n", {"job/cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("4:cpu,cpuacct:/job\n0::/\n", {"cpu/job/cpu.cfs_quota_us": "300000\n", "cpu/job/cpu.cfs_period_us": "100000\n"}, 3.0),
        ("4:cpu,cpuacct:/job\n", {"cpu/job/cpu.cfs_quota_us": "-1\n", "cpu/job/cpu.cfs_period_us": "100000\n"}, None),
        ("3:cpuset:/\n", {}, None),
    ],
)
def test_the_tightest_control_group_counts(tmp_path, own, files, expected):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cpu_quota(own, tmp_path) == expected


def test_the_mark_goes_and_a_runs_folder_is_not_made(tmp_path):
    runs = tmp_path / "not" / "there"
    with storage.marked(runs, ".mark"):
        assert storage.look(question(tmp_path, runs=runs))["sees_mark"]
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_as_large_as_is_said(tmp_path):
    network = describe("resnet20", storage.IMAGENET_CLASSES)
    arrays = initial_arrays(network, seed=0)
    velocity = {name: np.zeros_like(arrays[name]) for name in network.parameters}
    folder = save_checkpoint(tmp_path, 1, State(arrays, velocity, None), {}, keep=1)
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size == pytest.approx(storage.checkpoint_bytes("resnet20"), rel=0.05)
    assert storage.checkpoint_bytes("timm:vit_tiny_patch16_224") is None
