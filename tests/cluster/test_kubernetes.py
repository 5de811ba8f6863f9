"""What an MPIJob's containers run, on hosts that are not Kubernetes': the launcher on one, the workers on two others."""

from pathlib import Path

import pytest

from lbsgd.launch.kubernetes import MpiJob, render
from lbsgd.record.run_record import read_metrics, read_run

from ..parallel.ranks import step_losses
from .slurm import wait_until

pytestmark = pytest.mark.cluster

STEPS = 200


def operator_environment(folder: Path) -> dict[str, str]:
    """What mpi-operator tells a launcher with two workers (mpi_job_controller.go, ompiEnvVars and newConfigMap)."""
    (folder / "hostfile").write_text("node1 slots=1\nnode2 slots=1\n")
    return {
        "K_MPI_JOB_ROLE": "launcher",
        "OMPI_MCA_orte_keep_fqdn_hostnames": "true",
        "OMPI_MCA_orte_default_hostfile": str(folder / "hostfile"),
        "OMPI_MCA_plm_rsh_args": "-o ConnectionAttempts=10",
        "OMPI_MCA_orte_set_default_slots": "1",
    }


def test_a_worker_that_is_to_go_has_the_run_saved_and_the_next_launcher_goes_on(
    four_hosts, start_on, finish, digits, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    train = ("train", "--framework", "torch", "--recipe", "demo", "--data", str(digits), "--max-steps", str(STEPS))
    job = MpiJob(name="demo", image="lbsgd", command=train, workers=2, slots_per_worker=1, resources={}, node_selector={},
                 run_dir=str(run))  # fmt: skip
    launcher, worker = (
        render(job, {})["spec"]["mpiReplicaSpecs"][role]["template"]["spec"]["containers"][0] for role in ("Launcher", "Worker")
    )
    for name, value in operator_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    first = start_on(four_hosts.hosts[2], *launcher["command"])
    wait_until(lambda: steps_of(run) >= 30, 120, "30 steps")
    four_hosts.hosts[1].run(*worker["lifecycle"]["preStop"]["exec"]["command"])
    assert finish(first).code == 143
    second = finish(start_on(four_hosts.hosts[2], *launcher["command"]), 240)
    assert second.code == 0, second.stderr
    record = read_run(run)
    assert [attempt["status"] for attempt in record["attempts"]] == ["interrupted", "done"]
    assert record["world"]["hosts"] == ["node1", "node2"]
    assert steps_of(run) == STEPS


def steps_of(run: Path) -> int:
    return len(step_losses(read_metrics(run)))
