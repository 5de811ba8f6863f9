"""`lbsgd bench allreduce` on real ranks."""

import json
import sys

import pytest

from lbsgd.launch.horovod.installed import installed_frameworks

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HOROVOD_CYCLE_TIME": "0.5"}

BROKEN_MPI = """
from lbsgd.measuring import allreduce
from lbsgd.commands.bench_allreduce import bench_allreduce

class Broken(allreduce.Mpi4py):
    def to_array(self, total):
        total = super().to_array(total).copy()
        if total.size > 16:
            total[: self._comm.rank * 3] += 1
        return total

allreduce.Mpi4py = Broken
bench_allreduce(["--through", "mpi4py", "-b", "64", "-e", "128", "-n", "2", "--json"])
"""


def report(lbsgd, *arguments: object) -> dict:
    result = lbsgd("bench", "allreduce", "--oversubscribe", "--json", *arguments, env=ENVIRONMENT)
    assert result.code == 0, result.stderr
    return json.loads(result.stdout)


def require_consistent(row: dict) -> None:
    """Bandwidths follow from the time, and nothing is wrong."""
    assert row["wrong"] == 0
    assert 0 < row["seconds"] <= row["p99_seconds"]
    assert row["algbw"] == pytest.approx(row["bytes"] / row["seconds"] / 1e9)
    assert row["busbw"] == pytest.approx(row["algbw"] * 2 * (row["ranks"] - 1) / row["ranks"])


@pytest.mark.parametrize("framework, ranks", [("torch", 3), ("tensorflow", 2)])
def test_both_ways_are_measured_and_exact(lbsgd, framework, ranks):
    if framework not in installed_frameworks():
        pytest.skip(f"{framework} is not installed")
    told = report(lbsgd, "--np", ranks, "--framework", framework, "-b", "8", "-e", "32K", "-f", "64", "-n", "3", "-w", "1")
    assert (told["schema"], told["kind"], told["world"]["size"]) == (1, "allreduce", ranks)
    assert told["command"].startswith("lbsgd bench allreduce")
    assert told["settings"]["iterations"] == 3
    assert told["horovod"] == {"cycle_time_ms": 0.5, "fusion_threshold_bytes": 128 * 2**20}
    assert told["environment"]["backend"]["framework"] == framework
    in_place = {"mpi4py": (False, True), "horovod": (False, True) if framework == "torch" else (False,)}
    sizes = (8, 512, 32768)
    expected = [(way, size, place) for way in ("mpi4py", "horovod") for size in sizes for place in in_place[way]]
    assert [(row["through"], row["bytes"], row["in_place"]) for row in told["rows"]] == expected
    for row in told["rows"]:
        assert (row["ranks"], row["count"], row["type"], row["redop"]) == (ranks, row["bytes"] // 4, "float32", "sum")
        require_consistent(row)


def test_half_precision_goes_through_horovod(lbsgd):
    rows = report(lbsgd, "--np", 2, "--through", "horovod", "-d", "float16", "-b", "4K", "-e", "4K", "-n", "2")["rows"]
    assert [(row["count"], row["type"], row["in_place"]) for row in rows] == [
        (2048, "float16", place) for place in (False, True)
    ]
    for row in rows:
        require_consistent(row)


def test_the_table_has_a_row_a_size_and_the_host_is_warned_about(lbsgd):
    result = lbsgd("bench", "allreduce", "--np", 2, "--oversubscribe", "--through", "mpi4py", "-b", "1K", "-e", "4K", "-c", "0")
    assert result.code == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines() if not line.startswith("#")]
    assert [row[:5] for row in rows] == [["mpi4py", str(4 * n), str(n), "float32", "sum"] for n in (256, 512, 1024)]
    for row in rows:
        assert [row[8], row[12]] == ["-", "-"]
        assert float(row[6]) == pytest.approx(int(row[1]) / float(row[5]) / 1e3, abs=0.01)
    assert "mpi4py: mean busbw" in result.stdout
    assert "not checked" in result.stdout
    assert result.stderr.count("all 2 ranks are on one host") == 1


def test_one_rank_alone_has_no_bus(lbsgd):
    result = lbsgd("bench", "allreduce", "--through", "mpi4py", "-b", "1K", "-e", "2K", "--json")
    assert result.code == 0, result.stderr
    assert {row["busbw"] for row in json.loads(result.stdout)["rows"]} == {0.0}
    assert "one rank alone: nothing is sent" in result.stderr


def test_wrong_elements_are_counted_over_all_ranks_and_are_exit_code_1(start, finish, tmp_path):
    program = tmp_path / "broken.py"
    program.write_text(BROKEN_MPI)
    ranks = ["--allow-run-as-root", "--oversubscribe", "-np", 3]
    result = finish(start(*ranks, sys.executable, "-P", program, script="mpirun"))
    assert result.code == 1
    assert [row["wrong"] for row in json.loads(result.stdout)["rows"]] == [0, 0, 9, 9]
    [error] = [line for line in result.errors if line.startswith("Error: ")]
    assert error.startswith("Error: 18 elements are not the sum, first through mpi4py at 128 bytes")


def test_another_number_of_ranks_than_the_launcher_started_is_refused(lbsgd):
    result = lbsgd("bench", "allreduce", "--np", 3, env={"OMPI_COMM_WORLD_SIZE": "2"})
    assert result.code == 2
    assert "--np 3, but mpirun started 2 ranks" in result.stderr
