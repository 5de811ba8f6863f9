"""The published rows: that docs/projection.md is current, and how far predictions may be off."""

import importlib.util
import sys
from pathlib import Path
from statistics import median, quantiles

import pytest

from lbsgd.projection.calibration import published
from lbsgd.projection.error_band import narrowest_known

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def projection_error():
    """benchmarks/projection_error.py as a module: scripts there import one another by bare names."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("projection_error", BENCHMARKS / "projection_error.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def results(projection_error):
    return projection_error.results()


def absolute_errors(results, attribute):
    return [abs(result.error(getattr(result, attribute))) for result in results]


def ninth_decile(values):
    return quantiles(values, n=10, method="inclusive")[-1]


def test_the_page_is_current(projection_error, results):
    text = projection_error.PAGE.read_text()
    assert text == projection_error.with_generated_part(text, projection_error.page(results)), (
        "run python benchmarks/projection_error.py"
    )


@pytest.mark.parametrize(("attribute", "most"), [("predicted", 8), ("by_size", 8), ("fused", 10)])
def test_predictions_of_published_rows_are_near(results, attribute, most):
    """`fused` tells the model of fusion that 30 rows did not have: it may be further off."""
    errors = absolute_errors(results, attribute)
    assert len(errors) == 130
    assert median(errors) <= 3
    assert ninth_decile(errors) <= most


def left_out(results):
    """Those whose constants were fitted without their own system."""
    return [result for result in results if result.row.network_stated]


def test_the_error_bands_are_those_of_systems_left_out(results):
    bands = published().error_bands
    for kind, band in bands.items():
        members = [result for result in left_out(results) if kind in result.row.kinds]
        errors = absolute_errors(members, "held_out")
        assert band.rows == len(errors)
        assert band.systems == len({result.row.family for result in members})
        assert band.median_points == pytest.approx(median(errors), abs=0.1)
        assert band.p90_points >= ninth_decile(errors) - 0.1
    assert bands["any allreduce"].rows == len(left_out(results))


def test_the_bands_hold_nine_of_ten_rows_of_systems_left_out(results):
    bands = published().error_bands
    of_kind = {}
    for result in left_out(results):
        kind = narrowest_known(bands, result.row.kinds)
        held = abs(result.held_out - result.row.efficiency) <= bands[kind].half_width(result.held_out)
        of_kind.setdefault(kind, []).append(held)
    assert all(sum(held) >= 0.85 * len(held) for held in of_kind.values() if len(held) >= 10), of_kind
    everything = sum(of_kind.values(), [])
    assert sum(everything) >= 0.9 * len(everything)


def test_the_papers_row_is_within_two_points(results):
    (paper,) = [result for result in results if result.row.cells["source"].startswith("arXiv") and result.row.gpus == 256]
    assert abs(paper.error(paper.predicted)) < 2
