"""The benchmark of the training loop on two real ranks. What it measures is not checked here, only that it measures it."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from lbsgd.errors import EnvironmentNotReady
from lbsgd.launch.horovod.installed import FRAMEWORKS, installed_frameworks

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ROUNDS, STEPS, BATCH = 2, 2, 2


def run_benchmark(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "train_step.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs a core for each of two ranks")
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_all_contestants_train_the_same_network_and_are_timed(framework, ranks, tmp_path):
    if framework not in installed_frameworks():
        pytest.skip(f"{framework} is not installed")
    file = tmp_path / "new folder" / "result.json"
    shape = ["--batch", str(BATCH), "--size", "32", "--rounds", str(ROUNDS), "--steps", str(STEPS), "--np", str(ranks)]
    done = run_benchmark("--framework", framework, "--precision", "best", *shape, "--json", str(file))
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    own = {"torch": "ddp", "tensorflow": "mirrored"}[framework]
    sizes = report["gradient_sizes"]
    assert sizes["lbsgd"] == sizes["horovod"] == sizes[own]
    assert sum(sizes[own]) == 11_689_512  # ResNet-18 with 1000 classes
    assert len(report["rounds"]) == ROUNDS
    for one in report["rounds"]:
        rates = {name: ranks * BATCH * STEPS / max(seconds) for name, seconds in one["seconds"].items()}
        assert one["images_per_second"] == pytest.approx(rates)
        assert all(len(seconds) == ranks for seconds in one["seconds"].values())
    assert set(report["ratios"]) == {"horovod", own}
    for name, ratio in report["ratios"].items():
        ratios = [one["images_per_second"]["lbsgd"] / one["images_per_second"][name] for one in report["rounds"]]
        assert [ratio["min"], ratio["max"]] == pytest.approx([min(ratios), max(ratios)])
        assert f"lbsgd / {name}: {ratio['median']:.3f}" in done.stdout
    for name, trial in report["trial"].items():
        assert report["precision"][name] == min(trial, key=trial.get)
    assert report["environment"]["versions"]["horovod"]


def test_ranks_that_end_are_named_with_their_reason(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import step_groups

    missing = step_groups.started("nothing", ["torch", "nothing", "fp32", "1", "1", "8"], 1, horovod=False)
    with pytest.raises(EnvironmentNotReady, match="the ranks of nothing ended: KeyError: 'nothing'"), missing:
        pass


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
