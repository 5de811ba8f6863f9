"""docs/evidence.md says what the results in the repository say, and they are of the study's file."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from lbsgd.cli import cli
from lbsgd.experiments.grid import cells_of, jobs, read_study
from lbsgd.experiments.page import rows_of
from lbsgd.experiments.results import Results

ROOT = Path(__file__).parents[1]
STUDY, RESULTS, PAGE = ROOT / "benchmarks/evidence.toml", ROOT / "benchmarks/results/evidence.json", ROOT / "docs/evidence.md"


def test_page_and_figures_are_what_the_results_say():
    arguments = ["study", str(STUDY), "--check", "--results", str(RESULTS), "--page", str(PAGE)]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "figures are what" in result.output


def test_every_result_is_of_a_run_that_the_study_asks_for():
    wanted = {job.id: job for job in jobs(read_study(STUDY))}
    found = Results(RESULTS).runs
    assert found.keys() <= wanted.keys()
    assert all(result.seed == wanted[one].seed for one, result in found.items())


@pytest.mark.parametrize("part", read_study(STUDY).parts)
def test_every_cell_has_results(part):
    study = read_study(STUDY)
    assert len(rows_of(study, study.parts[part], Results(RESULTS))) == len(cells_of(study, study.parts[part]))
