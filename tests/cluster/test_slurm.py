"""`lbsgd launch slurm` on a real Slurm: what it takes, and runs that are ended by it and go on."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lbsgd.launch import mpirun
from lbsgd.record.run_record import read_metrics, read_run

from ..parallel.ranks import step_losses
from . import hosts
from .slurm import Slurm, slurm, wait_until, whats_missing

pytestmark = pytest.mark.cluster

TWO_RANKS = ("--nodes", 2, "--tasks-per-node", 1, "--time", "10:00")
STEPS = 660
WARNING = ("scancel", "--batch", "--signal=USR2")
"""What Slurm does some time before the time limit."""


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory) -> Iterator[Slurm]:
    """A Slurm over node1 and node2. Skips the test, with the reason, where this machine cannot have one."""
    if reason := hosts.whats_missing() or whats_missing():
        pytest.skip(reason)
    with hosts.cluster(2, tmp_path_factory.mktemp("hosts")) as two, slurm(two, tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def launch(two_nodes, start, finish, tmp_path, monkeypatch) -> Callable:
    """launch(*options, "--", *command): `lbsgd launch slurm` on the first node, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMPI_MCA_mpi_yield_when_idle", "1")  # Open MPI cannot know that its hosts share cores

    def launch(*arguments: object):
        program, *words = two_nodes.command(mpirun.console_script(), "launch", "slurm", *arguments)
        return finish(start(*words, script=program, cwd=tmp_path))

    return launch


def require_start(running: Slurm, by: str) -> None:
    """Skip the test where srun cannot start ranks."""
    if by != "srun":
        return
    tried = subprocess.run(running.command("srun", "--mpi=pmix", "true"), capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"this Slurm has no PMIx (Debian: libpmix-dev): {tried.stderr.strip().splitlines()[0]}")


def wait_for_steps(run: Path, count: int) -> None:
    wait_until(lambda: len(step_losses(read_metrics(run))) >= count, 120, f"{count} steps of {run}")


@pytest.mark.parametrize("gpus", [("--gpus-per-node", "a100:2"), ("--gpus-per-node", 2, "--exclusive", "--mem", 0)])
def test_slurm_accepts_the_script(launch, gpus):
    name = """it's $x "q" #1 \\ é"""
    more = ("--time", "1:00", "--job-name", name, "--sbatch", "comment=a b", "--sbatch", "kill-on-invalid-dep=yes")
    result = launch("--nodes", 2, *gpus, *more, "--test-only", "--", "train", "--framework", "torch")
    assert result.code == 0, result.stderr
    assert "nodes node[1-2]" in result.stdout


def test_what_slurm_refuses_is_told(launch):
    result = launch(*TWO_RANKS, "--partition", "nowhere", "--", "train", "--framework", "torch")
    assert result.code == 3
    assert "Error: sbatch refuses: invalid partition specified: nowhere" in result.stderr


def test_names_reach_slurm_whole(launch, two_nodes):
    name = """it's $x "q" #1 \\ é %j"""
    result = launch(*TWO_RANKS, "--job-name", name, "--sbatch", "hold", "--", "train", "--framework", "torch")
    assert result.code == 0, result.stderr
    number = result.stdout.strip()
    assert two_nodes.run("squeue", "-h", "-j", number, "-o", "%j").strip() == name
    two_nodes.run("scancel", number)


@pytest.mark.parametrize("by, end", [("mpirun", WARNING), ("srun", WARNING), ("srun", ("scontrol", "requeue"))],
                         ids=["mpirun-warned", "srun-warned", "srun-requeued"])  # fmt: skip
def test_a_run_that_is_ended_goes_on_as_one_record(launch, two_nodes, digits, tmp_path, by, end):
    require_start(two_nodes, by)
    submitted = launch(*TWO_RANKS, "--start", by, "--json", "--", "train", "--framework", "torch", "--recipe", "demo",
                       "--data", digits, "--efficiency-every", 5)  # fmt: skip
    assert submitted.code == 0, submitted.stderr
    told = json.loads(submitted.stdout)
    run = tmp_path / told["run"]
    wait_for_steps(run, 30)
    two_nodes.run(*end, told["job"])
    job = two_nodes.wait_for_state(told["job"], "COMPLETED", "FAILED", timeout=240)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1"), (tmp_path / told["log"]).read_text()
    record = read_run(run)
    first, second = record["attempts"]
    assert (first["status"], second["status"], record["status"]) == ("interrupted", "done", "done")
    assert 30 <= second["start_iteration"] < STEPS
    assert [line["step"] for line in read_metrics(run) if line["kind"] == "step"] == list(range(STEPS))
    assert (record["world"]["hosts"], record["world"]["launcher"]) == (["node1", "node2"], by)
    assert record["scaling"]["efficiency"] > 0
    assert record["final"]["top1_error"] <= 0.03


def test_training_over_two_nodes_has_the_losses_of_one_host(launch, lbsgd, two_nodes, digits, tmp_path):
    train = ("train", "--framework", "torch", "--recipe", "demo", "--data", digits, "--max-steps", 8, "--efficiency-every", 0)
    submitted = launch(*TWO_RANKS, "--json", "--", *train)
    assert submitted.code == 0, submitted.stderr
    told = json.loads(submitted.stdout)
    job = two_nodes.wait_for_state(told["job"], "COMPLETED", "FAILED", timeout=120)
    assert job["JobState"] == "COMPLETED", (tmp_path / told["log"]).read_text()
    over, on_one = tmp_path / told["run"], tmp_path / "on one"
    assert read_run(over)["world"]["hosts"] == ["node1", "node2"]
    alone = lbsgd(*train, "--np", 2, "--oversubscribe", "--run-dir", on_one, env={"OMP_NUM_THREADS": "1"})
    assert alone.code == 0, alone.stderr
    assert step_losses(read_metrics(over)) == pytest.approx(step_losses(read_metrics(on_one)), rel=1e-5)


@pytest.mark.parametrize("command, code", [(("--set", "no.such=1"), 2), (("--data", "/no/such"), 4)])
def test_a_run_that_cannot_be_is_not_started_again(launch, two_nodes, command, code):
    submitted = launch(*TWO_RANKS, "--", "train", "--framework", "torch", "--recipe", "demo", *command)
    assert submitted.code == 0, submitted.stderr
    job = two_nodes.wait_for_state(submitted.stdout.strip(), "COMPLETED", "FAILED")
    assert (job["JobState"], job["Restarts"], job["ExitCode"]) == ("FAILED", "0", f"{code}:0")


def test_a_lost_rank_is_started_again_as_often_as_was_allowed(launch, two_nodes, digits, tmp_path):
    submitted = launch(*TWO_RANKS, "--restarts", 1, "--json", "--", "train", "--framework", "torch", "--recipe", "demo",
                       "--data", digits, "--efficiency-every", 0)  # fmt: skip
    assert submitted.code == 0, submitted.stderr
    told = json.loads(submitted.stdout)
    run = tmp_path / told["run"]
    wait_until(lambda: any(run.glob("checkpoints/*/manifest.json")), 120, "a checkpoint")
    two_nodes.cluster.hosts[1].run("pkill", "-KILL", "-x", "lbsgd")
    wait_until(lambda: len(read_run(run)["attempts"]) == 2, 120, "a second attempt")
    two_nodes.cluster.hosts[1].run("pkill", "-KILL", "-x", "lbsgd")
    job = two_nodes.wait_for_state(told["job"], "FAILED", "COMPLETED")
    assert (job["JobState"], job["Restarts"], job["ExitCode"]) == ("FAILED", "1", "137:0")
    assert [attempt["start_iteration"] > 0 for attempt in read_run(run)["attempts"]] == [False, True]


def test_other_nodes_get_what_the_setup_made(launch, two_nodes, tmp_path):
    """sbatch's --export would hold for steps too, and by such a step mpirun begins on the other nodes."""
    made = f"export MADE=here PATH={Path(mpirun.console_script()).parent}:$PATH"
    setup = ("--setup", made, "--setup", "trap 'srun --ntasks=2 printenv MADE' EXIT")
    submitted = launch(*TWO_RANKS, *setup, "--start", "none", "--", "train", "--help")
    assert submitted.code == 0, submitted.stderr
    number = submitted.stdout.strip()
    two_nodes.wait_for_state(number, "COMPLETED", "FAILED")
    assert (tmp_path / "runs" / f"slurm-{number}.log").read_text().endswith("here\nhere\n")


def test_a_scaling_study_runs_in_the_allocation(launch, two_nodes, tmp_path):
    study = ("bench", "--gpus", "1,2", "--recipe", "demo", "--steps", 4, "--warm-up", 2, "--repeats", 1)
    submitted = launch(*TWO_RANKS, "--start", "none", "--", *study)
    assert submitted.code == 0, submitted.stderr
    job = two_nodes.wait_for_state(submitted.stdout.strip(), "COMPLETED", "FAILED")
    assert job["JobState"] == "COMPLETED", (tmp_path / f"runs/slurm-{submitted.stdout.strip()}.log").read_text()
    [found] = tmp_path.glob("runs/*-bench/bench.json")
    ranks = [[rank["host"] for rank in size["repeats"][0]["ranks"]] for size in json.loads(found.read_text())["sizes"]]
    assert ranks == [["node1"], ["node1", "node2"]]
