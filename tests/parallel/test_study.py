"""`lbsgd study` on real runs: a grid that trains, a run that diverges, a study that goes on where it was, and its page."""

import json

import pytest

from lbsgd.experiments.results import Results

STUDY = """
title = "Two rates"
recipe = "demo"
seeds = 2
set = { epochs = 1, global_batch = 64 }

[parts.rates]
title = "A rate that is sound and one that is not"
source = "none"
claim = "too high a rate diverges"
axes = { "learning_rate.reference" = [0.1, 1e30] }
reference = { "learning_rate.reference" = 0.1 }
figure = "batch"
lines = "learning_rate.reference"
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.toml").write_text(STUDY)
    return folder


@pytest.fixture(scope="module")
def first(lbsgd, digits, study):
    return lbsgd("study", study / "study.toml", "--data", digits, "--jobs", 2, timeout=300)


def test_every_cell_is_trained_with_every_seed_and_what_diverges_is_a_result(first, study):
    assert first.code == 0, first.stderr
    assert "4 of 4: " in first.stderr and "diverged" in first.stderr
    results = Results(study / "study.results.json")
    assert sorted((one.settings["learning_rate.reference"], one.seed, one.status) for one in results.runs.values()) == [
        (0.1, 0, "done"), (0.1, 1, "done"), (1e30, 0, "diverged"), (1e30, 1, "diverged"),
    ]  # fmt: skip
    done = [one for one in results.runs.values() if one.status == "done"]
    assert len({one.errors for one in done}) == 2  # another seed is another run
    assert all(0 < one.error < 1 and one.iterations == 22 for one in done)
    assert results.environment["torch"]
    assert "all runs diverged" in (study / "study.md").read_text()
    assert sorted(path.name for path in study.iterdir()) == ["study", "study.md", "study.results.json", "study.toml"]


def test_a_study_that_is_done_trains_nothing_and_its_page_is_what_its_results_say(first, lbsgd, digits, study):
    before = (study / "study.results.json").read_text()
    again = lbsgd("study", study / "study.toml", "--data", digits)
    assert again.code == 0 and "4 runs, 4 of them done" in again.stderr
    assert (study / "study.results.json").read_text() == before
    checked = lbsgd("study", study / "study.toml", "--check")
    assert checked.code == 0, checked.stderr
    content = json.loads(before)
    next(one for one in content["runs"] if one["status"] == "done")["errors"] = [0.5]
    (study / "study.results.json").write_text(json.dumps(content))
    assert lbsgd("study", study / "study.toml", "--check").code == 6
    (study / "study.results.json").write_text(before)


def test_a_run_that_fails_is_told_and_left_for_the_next_time(lbsgd, digits, study, tmp_path):
    file = tmp_path / "study.toml"
    models = STUDY.replace('"learning_rate.reference" = [0.1, 1e30]', "model = ['no-such-network', 'resnet20']")
    models = models.replace('{ "learning_rate.reference" = 0.1 }', "{ model = 'resnet20' }")
    file.write_text(models.replace('lines = "learning_rate.reference"', "").replace("seeds = 2", "seeds = 1"))
    result = lbsgd("study", file, "--data", digits, "--jobs", 2, timeout=300)
    assert result.code == 3
    assert "no model 'no-such-network'" in result.stderr
    assert "1 of 2 runs failed; run the study again" in result.stderr
    assert len(Results(tmp_path / "study.results.json").runs) == 1
