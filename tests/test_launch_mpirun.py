"""`lbsgd launch mpirun`: what it refuses, what it prints, and ranks of the four MPIs that it starts for real."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import psutil
import pytest

from lbsgd.cli import cli
from lbsgd.commands.startable import parse, require_startable
from lbsgd.launch import exported
from lbsgd.launch.job import Job
from lbsgd.launch.mpi_flavour import FLAVOURS, find_flavour
from lbsgd.launch.mpirun import console_script, render
from tests.mpi_environments import PACKAGES, make_environment
from tests.test_mpirun import wait_for

TRAIN = ("train", "--framework", "torch")


def printed(result) -> list[str]:
    assert result.code == 0, result.stderr
    return shlex.split(result.stdout)


def test_all_slots_of_the_hosts_are_taken_where_no_number_is_given(lbsgd):
    words = printed(lbsgd("launch", "mpirun", "--hosts", "a:4,b:2", "--mpi", "openmpi4", "--print", "--", *TRAIN))
    assert words[words.index("-np") + 1] == "6"
    assert words[words.index("-H") + 1] == "a:4,b:2"
    assert words[-4:] == [console_script(), *TRAIN]


def test_the_slots_of_a_scheduler_are_taken(lbsgd):
    slurm = {"SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_TASKS_PER_NODE": "4(x2)"}
    words = printed(lbsgd("launch", "mpirun", "--print", "--", *TRAIN, env=slurm))
    assert words[words.index("-np") + 1] == "8"
    assert words[words.index("-H") + 1] == "n1:4,n2:4"


def test_the_slots_of_a_hostfile_are_taken(lbsgd, hostile_dir):
    (hostile_dir / "hosts").write_text("a slots=3\nb slots=3\n")
    words = printed(lbsgd("launch", "mpirun", "-n", 4, "--hostfile", hostile_dir / "hosts", "--print", "--", *TRAIN))
    assert words[words.index("-H") + 1] == "a:3,b:1"


def test_what_is_printed_is_for_a_shell(lbsgd, hostile_dir):
    result = lbsgd("launch", "mpirun", "-n", 1, "--mpi-args", "--wdir 'a b'", "--print", "--", *TRAIN, "--data", hostile_dir)
    told = subprocess.run(["bash", "-c", f"printf '%s\\0' {result.stdout}"], capture_output=True, text=True, check=True).stdout
    assert told.split("\0")[-9:-1] == ["--wdir", "a b", console_script(), *TRAIN, "--data", str(hostile_dir)]


def test_the_command_needs_no_dashes_before_it(lbsgd):
    options = ("launch", "mpirun", "-n", 1, "--print")
    assert lbsgd(*options, *TRAIN).stdout == lbsgd(*options, "--", *TRAIN).stdout


def test_it_prints_without_an_mpirun_when_it_is_told_whose(lbsgd, tmp_path):
    options = ("launch", "mpirun", "--hosts", "a,b", "--print")
    result = lbsgd(*options, "--mpi", "openmpi5", "--", *TRAIN, env={"PATH": str(tmp_path)})
    assert "--prefix" not in printed(result)
    assert result.errors == ["note: no mpirun is here, so --prefix, the folder of Open MPI on other hosts, is left out"]
    result = lbsgd(*options, "--", *TRAIN, env={"PATH": str(tmp_path)})
    assert result.code == 3
    assert "Error: no mpirun on PATH; activate the environment" in result.stderr


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        ([], 2, "nothing to start; give an lbsgd command after --"),
        (["--"], 2, "nothing to start; give an lbsgd command after --"),
        (["--", "lbsgd", *TRAIN], 2, "what follows -- is an lbsgd command without the word lbsgd"),
        (["--", "trian"], 2, "no command 'trian'; did you mean 'train'?"),
        (["--", "bench", "allredcue"], 2, "No such command 'allredcue'"),
        (["--", "train", "--framwork", "torch"], 2, "No such option '--framwork'. Did you mean '--framework'?"),
        (["--", "train"], 2, "Missing option '--framework'"),
        (["--", "plan"], 2, "'plan' does not run as ranks; these do: train, eval, bench allreduce"),
        (["--", *TRAIN, "--np", "2"], 2, "--np after -- would tell train what the launcher decides; give --np before --"),
        (["--", *TRAIN, "-H", "a"], 2, "--hosts after -- would tell train what the launcher decides"),
        (["--", "bench", "allreduce", "--oversubscribe"], 2, "--oversubscribe after -- would tell bench allreduce"),
        (["--mpi", "lam", "--", *TRAIN], 2, "'lam' is not one of 'openmpi4', 'openmpi5', 'mpich', 'intel'"),
        (["--mpi-args", "--mca 'btl", "--", *TRAIN], 2, "No closing quotation; quote it as for a shell"),
        (["--np", "0", "--", *TRAIN], 2, "0 is not in the range x>=1"),
        (["--hosts", "a:x", "--", *TRAIN], 2, "'a:x' is not HOST or HOST:SLOTS"),
        (["--cores-per-rank", "2", "--oversubscribe", "--", *TRAIN], 2, "--oversubscribe has them share; give one of them"),
        (["--np", "5", "--hosts", "a:2,b:2", "--", *TRAIN], 3, "5 ranks, but --hosts has 4 slots; ask for at most 4"),
    ],
)
def test_what_cannot_be_started_is_refused_before_anything_is(lbsgd, arguments, code, message):
    result = lbsgd("launch", "mpirun", *arguments)
    assert (result.code, result.stdout) == (code, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("nodes, tasks, warnings", [("n[1-2]", "8(x2)", 1), ("n1", "1", 0), ("n1", "many", 0)])
def test_a_worker_alone_in_an_allocation_says_so(lbsgd, nodes, tasks, warnings):
    """Unless it has one slot, or what the scheduler says cannot be understood: a worker alone needs no hosts."""
    slurm = {"SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": nodes, "SLURM_TASKS_PER_NODE": tasks}
    result = lbsgd("bench", "allreduce", "-e", 8, "--through", "mpi4py", env=slurm)
    assert result.code == 0, result.stderr
    warning = "warning: Slurm job 17 has 16 tasks, but this is one worker; start one on each with --np auto"
    assert result.errors.count(warning) == result.stderr.count("Slurm") == warnings


def test_ranks_on_all_slots(lbsgd):
    result = lbsgd("bench", "allreduce", "--np", "auto", "-e", 8, "--through", "mpi4py", "--json", env={"OMP_NUM_THREADS": "1"})
    assert result.code == 0, result.stderr
    assert json.loads(result.stdout)["world"]["size"] == len(os.sched_getaffinity(0))


def test_as_many_ranks_as_are_asked_for(lbsgd):
    ranks = ("launch", "mpirun", "-n", 2, "--oversubscribe", "--tag-output", "--")
    result = lbsgd(*ranks, "bench", "allreduce", "-e", 8, "--through", "mpi4py", env={"OMP_NUM_THREADS": "1"})
    assert result.code == 0, result.stderr
    assert "<stdout>:" in result.stdout
    assert "all 2 ranks are on one host" in result.stderr


@dataclass(frozen=True)
class Mpi:
    """An MPI to start ranks with. bin: the folder of its mpirun and of a Python that has mpi4py."""

    flavour: str
    bin: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"}

    def render(self, program: str, **job) -> list[str]:
        command = (str(self.bin / "python"), "-c", program)
        return render(Job(np=2, command=command, flavour=self.flavour, **job), self.environment)


@pytest.fixture(params=FLAVOURS)
def mpi(request, tmp_path_factory) -> Mpi:
    folder = make_environment(request.param, tmp_path_factory.getbasetemp())
    if folder is None:
        pytest.skip(f"pip cannot install {PACKAGES[request.param]}")
    return Mpi(request.param, folder)


TELLS = """
import json, os
from mpi4py import MPI
told = {"size": MPI.COMM_WORLD.size, "cores": sorted(os.sched_getaffinity(0)), "threads": os.environ.get("OMP_NUM_THREADS")}
with open(f"rank-{MPI.COMM_WORLD.rank}", "w") as file:
    json.dump(told, file)
"""


@pytest.mark.slow
@pytest.mark.parametrize("cores", [None, 1])
def test_ranks_of_every_mpi_meet(mpi, finish, tmp_path, cores):
    here = sorted(os.sched_getaffinity(0))
    if cores and len(here) < 2:
        pytest.skip("two ranks with a core each need two cores")
    argv = mpi.render(TELLS, oversubscribe=cores is None, cores_per_rank=cores, tag_output=True)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    result = finish(subprocess.Popen(argv, cwd=tmp_path, env=mpi.environment, **pipes))
    assert result.code == 0, result.stderr
    told = [json.loads((tmp_path / f"rank-{rank}").read_text()) for rank in range(2)]
    assert [rank["size"] for rank in told] == [2, 2]
    if cores is None:
        assert [rank["cores"] for rank in told] == [here, here]
    else:
        assert [rank["threads"] for rank in told] == ["1", "1"]
        assert [len(rank["cores"]) for rank in told] == [1, 1]
        assert told[0]["cores"] != told[1]["cores"]


@pytest.mark.slow
def test_every_mpi_is_recognized(mpi, monkeypatch):
    monkeypatch.setenv("PATH", mpi.environment["PATH"])
    assert find_flavour() == mpi.flavour


SAVES_FIRST = """
import os, signal, time
from mpi4py import MPI
rank = MPI.COMM_WORLD.rank
def save(*_):
    time.sleep(2)
    open(f"saved-{rank}", "w").close()
    MPI.Finalize()
    os._exit(143)
signal.signal(signal.SIGUSR1, save)
print(os.getpid(), file=open(f"ready-{rank}", "w"), flush=True)
time.sleep(60)
"""
RUNS = "import json, sys; from lbsgd.launch.mpirun import run; sys.exit(run(json.loads(sys.argv[1])))"


@pytest.mark.slow
@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"])
def test_ranks_of_every_mpi_may_finish_saving(mpi, start, finish, tmp_path, number, code):
    argv = json.dumps(mpi.render(SAVES_FIRST, oversubscribe=True))
    process = start("-c", RUNS, argv, script=sys.executable, cwd=tmp_path, env=mpi.environment)
    wait_for(tmp_path, "ready-*", 2)
    process.send_signal(number)
    assert finish(process).code == code
    assert len(list(tmp_path.glob("saved-*"))) == 2


@pytest.mark.slow
def test_ranks_of_every_mpi_that_do_not_leave_are_ended(mpi, start, finish, tmp_path):
    deaf = "for number in (signal.SIGUSR1, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)"
    argv = json.dumps(mpi.render(SAVES_FIRST.replace("signal.signal(signal.SIGUSR1, save)", deaf), oversubscribe=True))
    process = start("-c", RUNS, argv, script=sys.executable, cwd=tmp_path, env=mpi.environment)
    wait_for(tmp_path, "ready-*", 2)
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
    assert finish(process, timeout=20).code == 143
    ranks = [int(file.read_text()) for file in tmp_path.glob("ready-*")]
    assert psutil.wait_procs([psutil.Process(pid) for pid in ranks if psutil.pid_exists(pid)], timeout=5)[1] == []


PAGE = Path(__file__).parents[1] / "docs" / "hosts.md"
TYPED = re.findall(r"^lbsgd .*", PAGE.read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", TYPED)
def test_the_commands_of_the_page_are_commands(line):
    """Those for other machines, which are not run here (tests/parallel/test_readme.py runs the rest)."""
    with click.Context(cli):
        context = parse(shlex.split(line)[1:])
        if "command" in context.params:
            require_startable(context.params["command"])


def test_the_page_lists_what_ranks_get():
    told = re.search(r"only those variables.*?\.", PAGE.read_text(), re.DOTALL)[0]
    assert set(re.findall(r"`(\w+)`", told)) == {*exported.NAMES, *exported.PREFIXES}


def test_the_page_lists_every_mpi():
    assert set(re.findall(r"\| `(\w+)` \|", PAGE.read_text())) == set(FLAVOURS)
