"""mpirun: what is rendered, what a process started through it gets, and how its end is passed on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.errors import EnvironmentNotReady, UsageError
from lbsgd.launch import mpirun, slots
from lbsgd.launch.mpirun import Job, render
from lbsgd.launch.slots import parse_hosts, require_slots

TELLS = """
import json, os, pathlib, sys
told = {"arguments": sys.argv[1:], "folder": os.getcwd(), "variable": os.environ["LBSGD_TRAIN_RUN_DIR"]}
pathlib.Path(os.environ["OMPI_COMM_WORLD_RANK"]).write_text(json.dumps(told))
"""


def test_ranks_on_this_host():
    job = Job(np=2, command=("/venv/bin/lbsgd", "train", "--np", "2"))
    environment = {"PATH": "/bin", "HOME": "/root", "LBSGD_TRAIN_SEED": "1", "AWS_SECRET_ACCESS_KEY": "x", "NCCL_DEBUG": "INFO"}
    assert render(job, environment) == [
        "mpirun", "--allow-run-as-root", "-np", "2", "--bind-to", "none", "--map-by", "slot",
        "--mca", "ras", "^slurm", "-H", "localhost:2", "-x", "LBSGD_TRAIN_SEED", "-x", "NCCL_DEBUG", "-x", "PATH",
        "/venv/bin/lbsgd", "train", "--np", "2",
    ]  # fmt: skip


def test_ranks_on_other_hosts():
    job = Job(np=8, command=("lbsgd", "train"), hosts="node1:4,node2:4", oversubscribe=True)
    assert render(job, {}, Path("/opt/my mpi")) == [
        "mpirun", "--allow-run-as-root", "-np", "8", "--bind-to", "none", "--map-by", "slot", "--oversubscribe",
        "--mca", "ras", "^slurm", "-H", "node1:4,node2:4", "--mca", "btl_tcp_flags", "send,inplace", "--prefix", "/opt/my mpi",
        "lbsgd", "train",
    ]  # fmt: skip


def test_ranks_on_other_hosts_talk_through_the_interface_that_is_named():
    job = Job(np=2, command=("lbsgd",), hosts="node1,node2", interface="eth1")
    assert render(job, {})[-12:-1] == [
        "--mca", "btl_tcp_flags", "send,inplace", "--mca", "oob_tcp_if_include", "eth1", "--mca", "btl_tcp_if_include", "eth1",
        "-x", "NCCL_SOCKET_IFNAME=eth1",
    ]  # fmt: skip


def test_what_the_environment_says_of_the_network_stays():
    job = Job(np=2, command=("lbsgd",), hosts="node1,node2", interface="eth1")
    argv = render(job, {"OMPI_MCA_btl_tcp_flags": "send", "NCCL_SOCKET_IFNAME": "ib0"})
    assert "btl_tcp_flags" not in argv
    assert [argv[place + 1] for place, word in enumerate(argv) if word == "-x"] == ["NCCL_SOCKET_IFNAME"]


def test_one_host_needs_no_network():
    assert "eth1" not in render(Job(np=2, command=("lbsgd",), interface="eth1"), {})


@pytest.mark.parametrize("name", ["", "-x", "eth0;ls", "eth0,eth1", "10.0.0.0/8", "a" * 16])
def test_what_is_no_interface_is_refused(lbsgd, name):
    result = lbsgd("bench", "allreduce", "--np", 2, "--hosts", "a,b", "--interface", name)
    assert result.code == 2
    assert f"{name!r} is not the name of a network interface, such as eth0" in result.stderr


@given(st.dictionaries(st.text("LBSGD_PATHX", min_size=1), st.text()), st.lists(st.text(), min_size=1))
def test_rendering_is_pure_and_never_repeats_a_value(environment, command):
    job, before = Job(np=2, command=tuple(command)), dict(environment)
    argv = render(job, environment)
    assert argv == render(job, environment)
    assert environment == before
    assert argv[-len(command) :] == command
    assert len(argv) == len(render(job, {})) + 2 * argv[: -len(command)].count("-x")


def test_hostile_names_reach_the_ranks_whole(hostile_dir, finish):
    arguments = [str(hostile_dir), "$HOME", "*", ""]
    command = (sys.executable, "-c", TELLS, *arguments)
    environment = {**os.environ, "LBSGD_TRAIN_RUN_DIR": str(hostile_dir)}
    argv = render(Job(np=2, command=command, oversubscribe=True), environment)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    result = finish(subprocess.Popen(argv, cwd=hostile_dir, env=environment, **pipes))
    assert result.code == 0, result.stderr
    expected = {"arguments": arguments, "folder": str(hostile_dir), "variable": str(hostile_dir)}
    assert [json.loads((hostile_dir / rank).read_text()) for rank in ("0", "1")] == [expected, expected]


@pytest.mark.parametrize(
    "hosts, expected",
    [("a", {"a": 1}), ("a:4,b:8", {"a": 4, "b": 8}), ("a:2,a:3", {"a": 5}), ("10.0.0.1:2", {"10.0.0.1": 2})],
)
def test_hosts_are_slots_by_host(hosts, expected):
    assert parse_hosts(hosts) == expected


@pytest.mark.parametrize("hosts", ["", "a,", "a:", "a:x", "a:0", "a:-1", "a b:2", "-a:2", "a:2;echo no", "a:2\n", "a::2"])
def test_other_host_lists_are_refused(hosts):
    with pytest.raises(UsageError, match="is not HOST or HOST:SLOTS"):
        parse_hosts(hosts)


def test_more_ranks_than_slots_are_refused_with_the_ways_out(monkeypatch):
    require_slots(12, "a:4,b:8")
    with pytest.raises(EnvironmentNotReady, match="--np 13 ranks, but --hosts a:4,b:8 has 12 slots; lower --np"):
        require_slots(13, "a:4,b:8")
    monkeypatch.setattr(slots, "local_slots", lambda: (4, "CPU cores"))
    require_slots(4, None)
    with pytest.raises(EnvironmentNotReady, match="--np 5 ranks, but this host has 4 CPU cores"):
        require_slots(5, None)


def test_this_host_has_a_slot_a_core_or_gpu():
    count, of = slots.local_slots()
    assert count >= 1
    assert of in ("GPUs", "CPU cores")


def test_no_mpirun_is_reported_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentNotReady, match="no mpirun on PATH; activate the environment"):
        mpirun.require_mpirun()


@pytest.mark.parametrize("body, code", [("", 0), ("sys.exit(5)", 5), ("os.kill(os.getpid(), 9)", 137)])
def test_the_exit_code_of_the_ranks_is_passed_on(body, code):
    command = (sys.executable, "-c", f"import os, sys\n{body}")
    assert mpirun.run(render(Job(np=2, command=command, oversubscribe=True), os.environ)) == code


SAVES_FIRST = """
import os, signal, sys, time
def save(*_):
    time.sleep(2)
    open(f"saved-{os.environ['OMPI_COMM_WORLD_RANK']}", "w").close()
    sys.exit(143)
signal.signal(signal.SIGUSR2, save)
open(f"ready-{os.environ['OMPI_COMM_WORLD_RANK']}", "w").close()
time.sleep(60)
"""
RUNS = """
import os, sys
from lbsgd.launch.mpirun import Job, render, run
job = Job(np=2, oversubscribe=True, command=(sys.executable, "-c", sys.argv[1]))
sys.exit(run(render(job, os.environ)))
"""


@pytest.mark.parametrize(
    "number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 143)], ids=["TERM", "INT", "HUP"]
)
def test_ranks_may_finish_saving_after_a_signal(start, finish, tmp_path, number, code):
    process = start("-c", RUNS, SAVES_FIRST, script=sys.executable, cwd=tmp_path)
    wait_for(tmp_path, "ready-*", 2)
    process.send_signal(number)
    assert finish(process).code == code
    assert len(list(tmp_path.glob("saved-*"))) == 2


def test_the_second_signal_ends_ranks_that_do_not_leave(start, finish, tmp_path):
    deaf = "import signal; signal.signal(signal.SIGUSR2, signal.SIG_IGN)\n" + SAVES_FIRST.replace(
        "SIGUSR2, save", "SIGUSR1, save"
    )
    process = start("-c", RUNS, deaf, script=sys.executable, cwd=tmp_path)
    wait_for(tmp_path, "ready-*", 2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert finish(process, timeout=20).code == 143


def test_under_nohup_the_terminal_may_go(start, finish, tmp_path):
    process = start("-c", f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{RUNS}", SAVES_FIRST,
                    script=sys.executable, cwd=tmp_path)  # fmt: skip
    wait_for(tmp_path, "ready-*", 2)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 143
    assert len(list(tmp_path.glob("saved-*"))) == 2


def wait_for(folder: Path, pattern: str, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(list(folder.glob(pattern))) < count:
        assert time.monotonic() < deadline, f"no {count} files {pattern} in {folder}"
        time.sleep(0.05)
