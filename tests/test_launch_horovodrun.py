"""`lbsgd launch horovodrun`: the line that Horovod 0.28.1 makes ranks of, and that it does."""

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from lbsgd.errors import EnvironmentNotReady
from lbsgd.launch.horovodrun import render, require_horovodrun
from lbsgd.launch.job import Job

GOLDEN = Path(__file__).parent / "golden" / "horovodrun"
TRAIN = ("/venv/bin/lbsgd", "train", "--framework", "torch", "--data", "/data/my images")
JOBS = {
    "this-host": Job(np=2, command=TRAIN),
    "two-hosts": Job(np=8, command=TRAIN, hosts={"node1": 4, "node2": 4}, interface="eth1"),
    "oversubscribed": Job(np=4, command=TRAIN, oversubscribe=True, mpi_args=("--wdir", "a b")),
    "mpich": Job(np=8, command=TRAIN, hosts={"node1": 4, "node2": 4}, flavour="mpich"),
}
needs_horovodrun = pytest.mark.skipif(shutil.which("horovodrun") is None, reason="horovodrun is not installed")


@pytest.mark.parametrize("name", JOBS)
def test_the_command_line_is_this(name):
    """Where a change is meant, the file is to be replaced by what this test shows."""
    argv = render(JOBS[name], Path("/opt/my mpi"), Path("logs of ranks"))
    assert f"{shlex.join(argv)}\n" == (GOLDEN / f"{name}.txt").read_text()


def test_what_is_given_to_a_shell_survives_it(hostile_dir):
    """horovodrun puts --mpi-args and --output-filename into a line for sh as they are."""
    job = replace(JOBS["two-hosts"], mpi_args=("--wdir", str(hostile_dir)))
    argv = render(job, hostile_dir, hostile_dir)
    folder = argv[argv.index("--output-filename") + 1]
    [mpi_args] = [word.removeprefix("--mpi-args=") for word in argv if word.startswith("--mpi-args=")]
    told = subprocess.run(
        ["sh", "-c", f"printf '%s\\0' {folder} {mpi_args}"], capture_output=True, text=True, check=True
    ).stdout
    words = told.split("\0")
    assert (words[0], words[-4:-1]) == (str(hostile_dir), [str(hostile_dir), "--wdir", str(hostile_dir)])
    assert "^slurm" in words


@needs_horovodrun
def test_open_mpi_5_is_refused_with_what_to_use():
    with pytest.raises(
        EnvironmentNotReady, match="mpirun is of Open MPI 5, .*; use lbsgd launch mpirun, with the same options"
    ):
        require_horovodrun("openmpi5")


def test_no_horovodrun_is_reported_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentNotReady, match="no horovodrun on PATH; activate"):
        require_horovodrun("openmpi4")


def test_the_same_is_refused_as_by_mpirun(lbsgd):
    result = lbsgd("launch", "horovodrun", "--", "train", "--framework", "torch", "--np", 2)
    assert result.code == 2
    assert "--np after -- would tell train what the launcher decides" in result.stderr


@pytest.mark.slow
@needs_horovodrun
def test_what_is_printed_starts_the_ranks_as_typed(lbsgd, hostile_dir):
    train = ("train", "--framework", "torch", "--recipe", "demo", "--max-steps", 2, "--efficiency-every", 0)
    options = ("-n", 2, "--oversubscribe", "--output-filename", hostile_dir / "logs", "--print")
    shown = lbsgd("launch", "horovodrun", *options, "--", *train, "--run-dir", hostile_dir / "run")
    assert shown.code == 0, shown.stderr
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-c", shown.stdout], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads((hostile_dir / "run" / "run.json").read_text())["world"]["size"] == 2
    assert any(file.stat().st_size for file in (hostile_dir / "logs").rglob("stderr"))


@needs_horovodrun
def test_it_starts_the_ranks(lbsgd, tmp_path):
    command = ("bench", "allreduce", "-e", 8, "--through", "mpi4py", "--json")
    result = lbsgd("launch", "horovodrun", "-n", 2, "--oversubscribe", "--", *command, env={"OMP_NUM_THREADS": "1"})
    assert result.code == 0, result.stderr
    [told] = [line for line in result.stdout.splitlines() if '"launcher"' in line]
    assert "horovodrun" in told
    assert "all 2 ranks are on one host" in result.stderr
