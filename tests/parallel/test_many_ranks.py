"""32 real ranks on this machine, far more than it has cores: they do what 2 ranks with 16 virtual workers each do."""

import json
from pathlib import Path

import numpy as np
import psutil
import pytest

from .ranks import step_losses

pytestmark = pytest.mark.slow

RANKS, STEPS = 32, 5
MEMORY_PER_RANK = 400 << 20  # bytes
TRAIN = (
    "train",
    "--framework",
    "torch",
    "--recipe",
    "demo",
    "--batch-per-gpu",
    2,
    "--max-steps",
    STEPS,
    "--efficiency-every",
    0,
)

# Open MPI takes the ranks' number for that of the cores, and would have each wait for the others at full speed.
SHARE_CORES = {"OMP_NUM_THREADS": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}


@pytest.fixture
def losses(lbsgd, digits, tmp_path):
    """losses(np, accumulate): a run's world, and the losses of its steps."""

    def losses(np: int, accumulate: int) -> tuple[dict, list[float]]:
        folder: Path = tmp_path / f"{np} ranks"
        size = ("--np", np, "--accumulate", accumulate, "--oversubscribe")
        done = lbsgd(*TRAIN, "--data", digits, *size, "--run-dir", folder, env=SHARE_CORES, timeout=900)
        assert done.code == 0, done.stderr
        metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return json.loads((folder / "run.json").read_text())["world"], step_losses(metrics)

    return losses


def test_32_ranks_have_the_losses_of_2_with_16_virtual_workers_each(losses):
    if psutil.virtual_memory().available < RANKS * MEMORY_PER_RANK:
        pytest.skip(f"{RANKS} ranks of torch take {RANKS * MEMORY_PER_RANK >> 20} MiB of memory")
    many_world, many = losses(RANKS, 1)
    few_world, few = losses(2, RANKS // 2)
    assert (many_world["size"], many_world["virtual_workers"]) == (RANKS, RANKS)
    assert (few_world["size"], few_world["virtual_workers"]) == (2, RANKS)
    assert len(many) == STEPS
    np.testing.assert_allclose(many, few, rtol=1e-4)
