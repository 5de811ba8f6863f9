"""A study's file, its runs and its page, on results that are made here; tests/parallel/test_study.py trains."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from lbsgd.cli import cli
from lbsgd.errors import TargetMissed, UsageError
from lbsgd.experiments.grid import cells_of, jobs, read_study
from lbsgd.experiments.page import page, rows_of
from lbsgd.experiments.results import Result, Results

STUDY = """
title = "Warm-up"
introduction = "Two lines."
recipe = "glyphs"
seeds = 3
set = { epochs = 6, "learning_rate.reference" = 0.05 }

[parts.flat]
title = "Error against global batch"
source = "figure 1"
claim = "flat, then rising"
axes = { global_batch = [16, 64, 256] }
reference = { global_batch = 16 }
figure = "batch"

[parts.warmup]
title = "Warm-up"
source = "table 1"
claim = "gradual is best"
set = { global_batch = 256 }
axes = { "warmup.kind" = ["gradual", "none"] }
cells = [{ global_batch = 16 }]
reference = { global_batch = 16 }
figure = "curves"
note = "A note."
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def made(job, errors=(0.5, 0.2, 0.1, 0.1, 0.1, 0.1), status="done") -> Result:
    return Result(id=job.id, settings=dict(job.cell.settings), seed=job.seed, status=status, errors=tuple(errors),
                  losses=(2.0,) * len(errors), iterations=100, seconds=60.0)  # fmt: skip


@pytest.fixture
def results(file):
    """Every run has an error that grows with the batch, less by its seed; without warm-up one seed diverged."""
    kept = Results(file.with_suffix(".results.json"))
    kept.data, kept.environment = "digest", {"cores": 2}
    for job in jobs(read_study(file)):
        level = 0.05 + job.cell.global_batch / 10_000 - 0.002 * job.seed
        diverged = job.cell["warmup.kind"] == "none" and job.seed == 1
        kept.add(made(job, [level] * 6, "diverged" if diverged else "done"))
    return kept


def test_runs_that_two_parts_need_are_taken_once_and_low_seeds_first(file):
    study = read_study(file)
    found = jobs(study)
    # 16, 64, 256; gradual and none at 256, of which gradual says in the file what the recipe says anyhow; 16 again.
    assert len(found) == len({job.id for job in found}) == 3 * 4
    assert [job.seed for job in found] == sorted(job.seed for job in found)
    assert len(cells_of(study, study.parts["warmup"])) == 3
    assert all(job.recipe.epochs == 6 for job in found)
    assert [job.virtual_workers for job in jobs(study, ["flat"])][:3] == [1, 4, 16]


def test_a_run_is_another_one_with_another_value_and_the_same_with_the_same(file):
    ids = [job.id for job in jobs(read_study(file))]
    assert ids == [job.id for job in jobs(read_study(file))]
    file.write_text(STUDY.replace("epochs = 6", "epochs = 7"))
    assert not set(ids) & {job.id for job in jobs(read_study(file))}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "Warm-up"\nintro', "intro", "title: Field required"),
        ("seeds = 3", "seeds = 0", "seeds: Input should be greater than or equal to 1"),
        ("seeds = 3", "sedes = 3", "sedes: Extra inputs"),
        ("[16, 64, 256]", "[16, 60]", "global_batch = 60 is no multiple of the recipe's batch_per_worker = 16"),
        ("[16, 64, 256]", "[]", "reference = .* is none of its cells"),
        ("set = { global_batch = 256 }", "", "every cell needs a global_batch"),
        ('"warmup.kind"', '"warmup.kin"', "unknown key 'warmup.kin'"),
        ('"none"]', '"sudden"]', "warmup.kind = 'sudden'"),
        ('recipe = "glyphs"', 'recipe = "glyph"', "no recipe 'glyph'; did you mean"),
        ('figure = "curves"', 'figure = "pie"', "parts.warmup.figure"),
        ("[parts.flat]", "[parts.flat", "Expected"),
        ("reference = { global_batch = 16 }\nfigure = \"batch\"", "reference = { global_batch = 32 }", "none of its cells"),
    ],
)  # fmt: skip
def test_what_no_study_could_be_is_refused_in_one_line(file, old, new, message):
    assert old in STUDY
    file.write_text(STUDY.replace(old, new))
    with pytest.raises(UsageError, match=message) as error:
        read_study(file)
    assert "\n" not in str(error.value)


def test_the_page_has_means_spreads_intervals_differences_and_what_diverged(file, results):
    text = page(read_study(file), results, "study")
    assert "| 16 | 0.05 | 3 | 4.96 ± 0.20 | 4.46 to 5.46 | reference |" in text
    assert "| 256 | 0.8 | 3 | 7.36 ± 0.20 | 6.86 to 7.86 | +2.40 (+1.95 to +2.85) |" in text
    assert "| 256 | none | 0.8 | 3 | 7.36 ± 0.28, 1 diverged |" in text
    assert "- worse: global batch 64; global batch 256\n" in text
    assert "- some runs diverged: global batch 256, warm-up none\n" in text
    assert "| 256 | gradual | 0.8 | 3 |" in text and "| 16 | none | 0.05 | 3 |" in text  # the reference has no warm-up
    assert "A note." in text
    assert "**Claimed** (table 1): gradual is best" in text


def test_a_part_without_results_says_so(file):
    kept = Results(file.with_suffix(".results.json"))
    assert page(read_study(file), kept, "study").count("Not run yet.") == 2
    study = read_study(file)
    assert rows_of(study, study.parts["flat"], kept) == []


def check(file) -> object:
    return CliRunner().invoke(cli, ["study", str(file), "--check"])


def test_check_finds_every_figure_and_page_that_the_results_do_not_say(file, results):
    from lbsgd.experiments.page import write_page

    write_page(read_study(file), results, file.with_suffix(".md"))
    assert "page and 4 figures are what 12 runs say" in check(file).output
    for name in ("study.md", "study/flat.svg", "study/warmup.png"):
        path = file.parent / name
        kept = path.read_bytes()
        path.write_bytes(kept + b" ")
        assert isinstance(check(file).exception, TargetMissed)
        assert name in str(check(file).exception)
        path.write_bytes(kept)
    assert check(file).exit_code == 0
    one = next(iter(results.runs.values()))
    results.add(replace(one, errors=(0.9,) * 6))
    assert isinstance(check(file).exception, TargetMissed)


def test_results_are_read_as_they_were_written(file, results):
    again = Results(results.file)
    assert again.runs == results.runs
    assert (again.data, again.environment) == ("digest", {"cores": 2})
    with pytest.raises(UsageError, match="other images"):
        again.require_data("another digest")


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"schema": 2}', '{"schema": 1, "data": null, "environment": {}, "runs": [{}]}']
)
def test_a_file_of_something_else_is_refused(file, text):
    path = file.with_suffix(".results.json")
    path.write_text(text)
    with pytest.raises(UsageError, match="does not hold the results of a study"):
        Results(path)


def test_a_study_without_data_is_told_to_name_it(file):
    assert "needs --data DIR" in str(CliRunner().invoke(cli, ["study", str(file)]).exception)


def test_results_are_small(results):
    assert len(results.file.read_text()) < 400 * len(results.runs)
    json.loads(results.file.read_text())
