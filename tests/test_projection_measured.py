"""Calibrating on results of `lbsgd bench allreduce`."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.errors import UsageError
from lbsgd.projection.collective import Link, ring
from lbsgd.projection.measured_allreduce import fit, measured_collective, read_measured

SIZES = [2**power for power in range(10, 28, 3)]
LINK = Link("test", 2e-5, 1.2e9)


def rows(ranks, **more):
    cost = ring(1, ranks, LINK, LINK)
    return [{"ranks": ranks, "bytes": size, "seconds": cost.seconds(size), **more} for size in SIZES]


def write(path, content):
    path.write_text(json.dumps(content))
    return path


@given(st.floats(0, 1e-2), st.floats(1e-11, 1e-8))
def test_a_line_is_found_again(latency, per_byte):
    cost = fit([(size, latency + size * per_byte) for size in SIZES])
    assert (cost.latency, cost.per_byte) == pytest.approx((latency, per_byte), rel=1e-3, abs=1e-12)


@given(st.lists(st.tuples(st.sampled_from(SIZES), st.floats(1e-6, 1)), min_size=5, max_size=20))
def test_no_measurement_makes_time_negative(measurements):
    if len({size for size, _ in measurements}) > 1:
        cost = fit(measurements)
        assert cost.latency >= 0
        assert cost.per_byte >= 0


@pytest.mark.parametrize("ranks", [2, 4, 8, 256])
def test_other_numbers_of_ranks_scale_as_a_ring(tmp_path, ranks):
    measured = read_measured([write(tmp_path / "four.json", {"schema": 1, "rows": rows(4)})])
    for size in (1e4, 1e6, 1e8):
        assert measured_collective(measured, ranks).seconds(size) == pytest.approx(ring(1, ranks, LINK, LINK).seconds(size))


def test_several_files_are_put_together_and_horovods_rows_count(tmp_path):
    slow = [row | {"seconds": 5.0} for row in rows(2, through="mpi4py")]
    two = write(tmp_path / "two.json", {"schema": 1, "rows": rows(2, through="horovod") + slow})
    eight = write(tmp_path / "eight.json", {"schema": 1, "rows": rows(8)})
    measured = read_measured([two, eight])
    assert list(measured) == [2, 8]
    assert measured[2].seconds(1e6) == pytest.approx(ring(1, 2, LINK, LINK).seconds(1e6))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"schema": 2, "rows": rows(2)}, "no rows of schema 1"),
        ({"schema": 1, "rows": []}, "no rows"),
        ({"schema": 1, "rows": [{"ranks": 2}]}, "no key"),
        ({"schema": 1, "rows": rows(2)[:1]}, "one size"),
        ({"schema": 1, "rows": [{"ranks": 1, "bytes": 8, "seconds": 1.0}]}, "two ranks"),
        ([], "not a result"),
    ],
)
def test_other_files_are_refused_with_the_reason(tmp_path, content, message):
    with pytest.raises(UsageError, match=message):
        read_measured([write(tmp_path / "file.json", content)])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="nowhere.json: .*No such file"):
        read_measured([tmp_path / "nowhere.json"])
