"""The installed Horovod on two real ranks."""

import runpy
import sys

import numpy as np
import psutil
import pytest

from lbsgd.errors import EnvironmentNotReady
from lbsgd.launch.horovod.installed import FRAMEWORKS, installed_frameworks
from lbsgd.launch.horovod.verify import PROGRAM, run_bounded, verify_allreduce


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_two_ranks_reduce_to_the_exact_values(framework):
    if framework not in installed_frameworks():
        pytest.skip(f"{framework} is not installed")
    report = verify_allreduce(framework)
    assert report["ranks"] == 2
    assert report["mpi"] is True


def test_a_wrong_value_is_found():
    require_equal = runpy.run_path(str(PROGRAM))["require_equal"]
    expected = np.arange(4, dtype=np.float32)
    require_equal("sum", expected.copy(), expected)
    with pytest.raises(SystemExit, match="element 2 is 2.5, it must be 2.0"):
        require_equal("sum", np.float32([0, 1, 2.5, 3]), expected)


def test_ranks_that_fail_are_reported_in_one_line():
    with pytest.raises(EnvironmentNotReady) as error:
        verify_allreduce("no such framework")
    assert "KeyError: 'no such framework'" in str(error.value)
    assert "\n" not in str(error.value)


def test_ranks_that_hang_are_killed():
    marker = "lbsgd-hanging-rank"
    program = f"import time; time.sleep(600)  # {marker}"
    argv = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", "2", sys.executable, "-c", program]
    _, _, code = run_bounded(argv, timeout=3.0)
    assert code is None
    assert not [p for p in psutil.process_iter(["cmdline"]) if marker in " ".join(p.info["cmdline"] or [])]
