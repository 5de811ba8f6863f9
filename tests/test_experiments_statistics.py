"""Intervals of means and of differences: known values, and what they promise."""

import numpy as np
import pytest

from lbsgd.experiments.statistics import difference, mean


def test_a_mean_and_its_interval_are_the_textbook_s():
    one = mean([1, 2, 3, 4, 5])
    assert (one.value, one.spread) == (3, pytest.approx(1.58114, abs=1e-5))
    assert one.half_width == pytest.approx(2.776 * 1.58114 / 5**0.5, abs=1e-4)


def test_a_single_value_has_no_interval():
    one = mean([7.0])
    assert (one.value, one.spread, one.half_width, one.interval) == (7.0, None, None, None)
    assert difference([7.0], [6.0, 6.5]).interval is None


def test_equal_spreads_and_numbers_give_students_own_interval():
    """Welch's degrees of freedom are then those of the pooled test: 2 (n - 1)."""
    one = difference([1, 2, 3, 4, 5], [2, 3, 4, 5, 6])
    assert one.value == -1
    assert one.half_width == pytest.approx(2.306 * (2 * 2.5 / 5) ** 0.5, abs=1e-3)


def test_values_without_spread_differ_by_what_they_differ():
    assert difference([2.0, 2.0], [1.0, 1.0]).interval == (1.0, 1.0)


@pytest.mark.parametrize("count", [3, 5, 10])
def test_intervals_hold_what_is_true_in_95_of_100_cases(count):
    random = np.random.default_rng(count)
    held = []
    for _ in range(2000):
        low, high = mean(random.normal(5, 1, count).tolist()).interval
        held.append(low <= 5 <= high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("spreads", [(1, 1), (0.3, 2)])
def test_intervals_of_differences_hold_what_is_true(spreads):
    random = np.random.default_rng(0)
    held = []
    for _ in range(2000):
        one, other = (random.normal(centre, spread, 5).tolist() for centre, spread in zip((5, 4), spreads, strict=True))
        low, high = difference(one, other).interval
        held.append(low <= 1 <= high)
    assert np.mean(held) >= 0.93
