"""The benchmark of the training loop on two real ranks. What it measures is not checked here, only that it measures it."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from lbsgd.launch.horovod_check import FRAMEWORKS, installed_frameworks

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ROUNDS, STEPS, BATCH = 2, 2, 2


def run_benchmark(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "train_step.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs a core for each of two ranks")
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_both_sides_train_the_same_network_and_are_timed(framework, tmp_path):
    if framework not in installed_frameworks():
        pytest.skip(f"{framework} is not installed")
    file = tmp_path / "result.json"
    shape = ["--batch", str(BATCH), "--size", "32", "--rounds", str(ROUNDS), "--steps", str(STEPS)]
    done = run_benchmark("--framework", framework, *shape, "--json", str(file))
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    sizes = report["gradient_sizes"]
    assert sizes["lbsgd"] == sizes["stock"]
    assert sum(sizes["stock"]) == 11_689_512  # ResNet-18 with 1000 classes
    assert [pair["first"] for pair in report["pairs"]] == ["stock", "lbsgd"]
    for pair in report["pairs"]:
        rates = {side: 2 * BATCH * STEPS / max(seconds) for side, seconds in pair["seconds"].items()}
        assert pair["images_per_second"] == pytest.approx(rates)
        assert pair["ratio"] == pytest.approx(rates["lbsgd"] / rates["stock"])
        assert all(len(seconds) == 2 for seconds in pair["seconds"].values())
    ratio = report["ratio"]
    assert ratio["min"] <= ratio["median"] <= ratio["max"]
    assert f"{ratio['median']:.3f}" in done.stdout
    assert report["settings"]["framework"] == framework
    assert report["environment"]["versions"]["horovod"]
    assert report["environment"]["cores"] == 1


def test_more_ranks_than_cores_are_refused():
    done = run_benchmark("--framework", "torch", "--np", "100000")
    assert done.returncode == 3
    assert done.stderr.startswith("Error: --np 100000 ranks want a core each")


@pytest.mark.parametrize(
    "count, low, high, confidence", [(2, 1, 2, 0.5), (7, 1, 7, 0.984), (9, 2, 8, 0.961), (21, 6, 16, 0.973)]
)
def test_interval_of_the_median_is_that_of_the_binomial_table(count, low, high, confidence):
    median_interval = runpy.run_path(str(BENCHMARKS / "pairs.py"))["median_interval"]
    assert median_interval([float(i) for i in range(count, 0, -1)]) == (low, high, pytest.approx(confidence, abs=5e-4))
