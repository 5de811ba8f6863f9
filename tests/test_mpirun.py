"""mpirun: what is rendered, what a process started through it gets, and how its end is passed on."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.errors import EnvironmentNotReady
from lbsgd.launch import mpirun
from lbsgd.launch.exported import exported_names
from lbsgd.launch.job import Job
from lbsgd.launch.mpi_flavour import FLAVOURS, find_flavour, flavour_of
from lbsgd.launch.mpirun import render

TELLS = """
import json, os, pathlib, sys
told = {"arguments": sys.argv[1:], "folder": os.getcwd(), "variable": os.environ["LBSGD_TRAIN_RUN_DIR"]}
pathlib.Path(os.environ["OMPI_COMM_WORLD_RANK"]).write_text(json.dumps(told))
"""


GOLDEN = Path(__file__).parent / "golden" / "mpirun"
LOGIN_SHELL = {
    "AWS_SECRET_ACCESS_KEY": "x",
    "HOME": "/root",
    "LBSGD_TRAIN_SEED": "1",
    "NCCL_DEBUG": "INFO",
    "OMP_NUM_THREADS": "7",
    "PATH": "/bin",
    "UCX_TLS": "rc",
}
TRAIN = ("/venv/bin/lbsgd", "train", "--framework", "torch", "--data", "/data/my images")
JOBS = {
    "this-host": Job(np=2, command=TRAIN),
    "two-hosts": Job(np=8, command=TRAIN, hosts={"node1": 4, "node2": 4}),
    "uneven-hosts": Job(np=20, command=TRAIN, hosts={"node1": 8, "node2": 8, "node3": 4}, oversubscribe=True),
    "32-hosts-of-8": Job(np=256, command=TRAIN, hosts={f"node{n:02}": 8 for n in range(1, 33)}, interface="ib0"),
    "64-hosts": Job(np=64, command=TRAIN, hosts={f"n{n}": 1 for n in range(1, 65)}),
    "every-option": Job(
        np=8,
        command=TRAIN,
        hosts={"node1": 4, "node2": 4},
        interface="eth1",
        cores_per_rank=6,
        tag_output=True,
        mpi_args=("-x", "A B"),
    ),
}


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_command_line_is_this(flavour, name):
    """Where a change is meant, the file is to be replaced by what this test shows."""
    argv = render(replace(JOBS[name], flavour=flavour), LOGIN_SHELL, Path("/opt/my mpi"))
    assert f"{shlex.join(argv)}\n" == (GOLDEN / f"{flavour}-{name}.txt").read_text()


def test_every_golden_file_is_compared():
    assert {file.stem for file in GOLDEN.iterdir()} == {f"{flavour}-{name}" for flavour in FLAVOURS for name in JOBS}


def test_in_a_slurm_job_the_helpers_of_mpirun_are_sent_to_the_other_hosts():
    job, slurm = (
        Job(np=3, command=("lbsgd",), hosts={"n1": 1, "n2": 1, "n3": 1}),
        {"SLURM_JOB_ID": "17", "SLURMD_NODENAME": "n1"},
    )
    argv = render(job, slurm)
    assert argv[argv.index("plm_slurm_args") - 1 :][:3] == ["--mca", "plm_slurm_args", "--nodes=2 --nodelist=n2,n3"]
    assert render(job, {**slurm, "SLURMD_NODENAME": "n1.cluster"}) == argv
    assert "plm_slurm_args" not in render(job, {})
    assert "plm_slurm_args" not in render(replace(job, np=1, hosts={"n1": 1}), slurm)


def test_what_the_environment_says_of_the_network_stays():
    job = Job(np=2, command=("lbsgd",), hosts={"node1": 1, "node2": 1}, interface="eth1")
    argv = render(job, {"OMPI_MCA_btl_tcp_flags": "send", "NCCL_SOCKET_IFNAME": "ib0"})
    assert "btl_tcp_flags" not in argv
    assert [argv[place + 1] for place, word in enumerate(argv) if word == "-x"] == ["NCCL_SOCKET_IFNAME"]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_one_host_needs_no_network(flavour):
    assert "eth1" not in " ".join(render(Job(np=2, command=("lbsgd",), interface="eth1", flavour=flavour), {}))


@given(st.lists(st.integers(1, 9), min_size=1))
def test_intel_mpi_is_given_as_many_ranks_on_each_host_as_it_has_slots(slots):
    hosts = {f"n{place}": count for place, count in enumerate(slots)}
    argv = render(Job(np=sum(slots), command=("lbsgd",), hosts=hosts, flavour="intel"), {})
    names, each = argv[argv.index("-hosts") + 1].split(","), int(argv[argv.index("-ppn") + 1])
    assert [each * names.count(f"n{place}") for place in range(len(slots))] == slots


@pytest.mark.parametrize(
    "said, flavour",
    [
        ("mpirun (Open MPI) 4.1.8\n\nReport bugs to http://www.open-mpi.org/community/help/\n", "openmpi4"),
        ("mpirun (Open MPI) 5.0.11\n", "openmpi5"),
        ("mpirun (Open MPI) 3.1.4\n", "openmpi4"),
        ("mpirun (Open MPI) 10.0.0a1\n", "openmpi5"),
        ("mpirun (IBM Spectrum MPI) 10.3.1.02rtm0\n", "openmpi4"),
        ("HYDRA build details:\n    Version:                                 5.0.2\n", "mpich"),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.18.1 Build 20260626 (id: b44796a)\n", "intel"),
        ("mpirun: unrecognized option\n", None),
        ("", None),
    ],
)
def test_the_flavour_is_what_mpirun_says(said, flavour):
    assert flavour_of(said) == flavour


def test_another_mpi_is_reported_with_what_it_says(monkeypatch, tmp_path):
    (tmp_path / "mpirun").write_text("#!/bin/sh\necho 'SuperMPI 1.0'\n")
    (tmp_path / "mpirun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(EnvironmentNotReady, match=r"mpirun is of an MPI that lbsgd does not know: 'SuperMPI 1.0'; put"):
        find_flavour()


@pytest.mark.parametrize("name", ["", "-x", "eth0;ls", "eth0,eth1", "10.0.0.0/8", "a" * 16])
def test_what_is_no_interface_is_refused(lbsgd, name):
    result = lbsgd("bench", "allreduce", "--np", 2, "--hosts", "a,b", "--interface", name)
    assert result.code == 2
    assert f"{name!r} is not the name of a network interface, such as eth0" in result.stderr


@given(
    st.sampled_from(FLAVOURS),
    st.sets(st.text("LBSGD_PATHX", min_size=1)),
    st.lists(st.text(), min_size=1),
)
def test_rendering_is_pure_and_tells_no_secrets(flavour, names, command):
    environment = {name: f"the secret of {name}." for name in names}
    job, before = Job(np=2, command=tuple(command), flavour=flavour), dict(environment)
    argv = render(job, environment)
    assert argv == render(job, environment)
    assert environment == before
    assert argv[-len(command) :] == command
    told = {value for name, value in environment.items() if name in exported_names(environment)}
    assert {word for word in argv[: -len(command)] if word.startswith("the secret")} in (set(), told)


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
signal.signal(signal.SIGUSR1, save)
open(f"ready-{os.environ['OMPI_COMM_WORLD_RANK']}", "w").close()
time.sleep(60)
"""
RUNS = """
import os, sys
from lbsgd.launch.job import Job
from lbsgd.launch.mpirun import render, run
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
    deaf = "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n" + SAVES_FIRST.replace(
        "SIGUSR1, save", "SIGUSR2, save"
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
