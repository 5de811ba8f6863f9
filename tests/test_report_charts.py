"""What a chart shows of many points, and where on its axes."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lbsgd.report.axis import count_axis, linear_axis, log_axis
from lbsgd.report.chart import stack
from lbsgd.report.curves import Point, bins, outline, some

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=400)


def points(values: list[float]) -> list[Point]:
    return [Point(float(x), y) for x, y in enumerate(values)]


@given(VALUES, st.integers(1, 50))
def test_an_outline_is_short_and_keeps_the_extremes(values, columns):
    shown = outline(points(values), columns)
    assert len(shown) <= 2 * columns or len(shown) == len(values) <= 2 * columns
    assert {min(values), max(values)} <= {point.y for point in shown}
    assert shown == sorted(shown, key=lambda point: point.x)
    assert set(shown) <= set(points(values))


def test_an_outline_keeps_a_spike_of_one_step_among_a_hundred_thousand():
    values = [1.0] * 100_000
    values[54_321] = 9.0
    shown = outline(points(values), 500)
    assert len(shown) <= 1000
    assert Point(54_321.0, 9.0) in shown


@given(VALUES, st.integers(1, 50))
def test_bins_cover_every_point_once(values, count):
    found = bins(points(values), count)
    assert len(found) == min(count, len(values))
    assert found[0].first == 0
    assert found[-1].last == len(values) - 1
    assert all(after.first == before.last + 1 for before, after in zip(found, found[1:], strict=False))
    for one in found:
        own = values[int(one.first) : int(one.last) + 1]
        assert (one.low, one.high) == (min(own), max(own))
        assert one.mean == pytest.approx(sum(own) / len(own), abs=1e-6)


def test_some_rows_are_the_first_the_last_and_between():
    assert some(range(5), 9) == [0, 1, 2, 3, 4]
    assert some(range(1001), 3) == [0, 500, 1000]


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.booleans())
def test_a_linear_axis_holds_its_range_and_few_round_ticks(low, width, exact):
    assume(low + width == low or width > 1e-9 * abs(low))  # else the tolerance below is less than a float's
    axis = linear_axis("x", low, low + width, exact=exact)
    assert axis.low <= low + 1e-6 * width
    assert axis.high >= low + width - 1e-6 * width
    assert 2 <= len(axis.ticks) <= 8 or low + width == low
    assert [value for value, _ in axis.ticks] == sorted(value for value, _ in axis.ticks)
    assert (axis.place(axis.low), axis.place(axis.high)) == pytest.approx((0, 100))


def test_round_ticks():
    assert [text for _, text in linear_axis("epoch", 0, 90, exact=True).ticks] == ["0", "20", "40", "60", "80"]
    assert [text for _, text in linear_axis("images/s", 0, 51_000).ticks] == ["0", "20k", "40k", "60k"]


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e6))
def test_a_logarithmic_axis_has_ticks_within_its_range(low, ratio):
    axis = log_axis("lr", low, low * ratio)
    assert all(axis.low <= value <= axis.high for value, _ in axis.ticks)
    assert 0 < axis.place(low) < axis.place(low * ratio) < 100


@pytest.mark.parametrize("counts", [[1], [1, 2], [1, 2, 3, 4], [8, 16, 64, 128, 256], [8, 256, 512, 1024], range(1, 200, 7)])
def test_ticks_at_numbers_of_workers_leave_room_for_their_text(counts):
    axis = count_axis("workers", list(counts))
    places = [axis.place(value) for value, _ in axis.ticks]
    assert axis.ticks[-1] == (max(counts), f"{max(counts):,}")
    assert all(after - before >= 13 for before, after in zip(places, places[1:], strict=False))
    assert 0 < places[0] <= places[-1] < 100


def test_a_bar_s_parts_follow_each_other_and_what_is_negative_takes_no_room():
    bar = stack("x", "10 ms", {"compute": (6.0, "6 ms"), "remainder": (-1.0, "-1 ms"), "data": (4.0, "4 ms")}, 20.0)
    assert [tuple(segment) for segment in bar.segments] == [
        ("compute", 0.0, 30.0, "compute: 6 ms"),
        ("data", 30.0, 20.0, "data: 4 ms"),
    ]
