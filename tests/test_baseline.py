"""Which measurement a run's speed is compared with, and which it never is."""

import copy
import json

import pytest

from lbsgd.errors import UsageError
from lbsgd.measuring.baseline import find_baseline, named_baseline, require_comparable
from lbsgd.record.run_record import read_run

from .report_samples import write_run, write_study


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A study on 8 to 256 workers, and a run on 16."""
    folder = tmp_path_factory.mktemp("baseline") / "runs"
    write_study(folder / "20260101T000000Z-bench")
    write_run(folder / "a-16", workers=16)
    return folder


def changed(content, path: str, value):
    """A copy with another value at a.b.c."""
    content = copy.deepcopy(content)
    *outer, last = path.split(".")
    inner = content
    for name in outer:
        inner = inner[name]
    inner[last] = value
    return content


OTHERS = {
    "framework": "jax",
    "recipe.model": "resnet18",
    "recipe.batch_per_worker": 64,
    "recipe.precision": "fp32",
    "recipe.images.size": 160,
    "world.accumulate": 2,
    "data": "synthetic",
    "environment.processor": "another",
    "environment.backend": {"device": "another", "threads": None},
}


def test_a_run_is_compared_with_the_study_of_its_kind(runs):
    found = find_baseline(runs, read_run(runs / "a-16"))
    assert (found.run, found.workers) == ("20260101T000000Z-bench", 8)
    twice = found.scaling(16, 2 * found.images_per_second)
    assert (twice["efficiency"], twice["baseline_workers"], twice["method"]) == (1.0, 8, "baseline-run")


@pytest.mark.parametrize("path", OTHERS)
def test_a_study_of_another_kind_is_no_baseline(runs, path):
    assert find_baseline(runs, changed(read_run(runs / "a-16"), path, OTHERS[path])) is None


@pytest.mark.parametrize("workers", [1, 8])
def test_a_study_of_as_many_workers_or_more_is_no_baseline(runs, workers):
    assert find_baseline(runs, changed(read_run(runs / "a-16"), "world.size", workers)) is None


def test_the_study_that_was_started_last_is_taken_whatever_its_name(tmp_path):
    for name, started in (("z-bench", "2026-01-01"), ("a-bench", "2026-03-01"), ("m-bench", "2026-02-01")):
        write_study(tmp_path / name, gpus=(8, 16))
        file = tmp_path / name / "bench.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"started": f"{started}T00:00:00Z"}))
    write_run(tmp_path / "run", workers=32)
    assert find_baseline(tmp_path, read_run(tmp_path / "run")).run == "a-bench"


def test_a_run_is_a_baseline_only_when_it_is_named(tmp_path):
    write_run(tmp_path / "small", workers=8)
    write_run(tmp_path / "large", workers=16)
    large = read_run(tmp_path / "large")
    assert find_baseline(tmp_path, large) is None
    found = named_baseline("small", tmp_path)
    require_comparable(found, large)
    assert (found.workers, found.images_per_second) == (8, 2000.0)


def test_a_short_run_is_refused_as_a_baseline(tmp_path):
    record = write_run(tmp_path / "short", workers=8)
    record.update(throughput=record.content["throughput"] | {"steps_timed": 19})
    with pytest.raises(UsageError, match="--baseline short has 19 timed steps; a baseline needs 20"):
        named_baseline("short", tmp_path)


@pytest.mark.parametrize("path", OTHERS)
def test_a_named_baseline_of_another_kind_is_refused_with_what_differs(runs, path):
    baseline = named_baseline("a-16", runs)
    other = changed(changed(read_run(runs / "a-16"), path, OTHERS[path]), "world.size", 32)
    with pytest.raises(UsageError, match="cannot be compared with this run: .* there, .* here"):
        require_comparable(baseline, other)


def test_a_named_baseline_needs_fewer_workers(runs):
    with pytest.raises(UsageError, match="16 workers, not fewer than the 16 here"):
        require_comparable(named_baseline("a-16", runs), read_run(runs / "a-16"))
