"""Figures of a scaling study follow from the ranks' times as they are defined."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.measuring.figures import efficiency, parts, size_figures
from lbsgd.measuring.step_parts import StepParts
from lbsgd.measuring.study_ranks import laps_of_all

from .scaling_samples import measurement

TIMES = st.floats(0.1, 1000.0)
LAPS = st.integers(1, 8).flatmap(
    lambda count: st.lists(st.lists(TIMES, min_size=count, max_size=count), min_size=1, max_size=5)
)


@st.composite
def rounds(draw):
    """One to three rounds of one to five ranks, of any times."""
    ranks = draw(st.integers(1, 5))
    return [
        measurement(
            draw(st.lists(TIMES, min_size=1, max_size=6)),
            draw(st.lists(TIMES, min_size=ranks, max_size=ranks)),
            busy=draw(TIMES),
            data=draw(st.floats(0.0, 50.0)),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]


@given(rounds())
def test_parts_sum_to_the_mean_step(repeats):
    found = parts(repeats)
    assert found.whole == pytest.approx(np.mean([rank["step_ms"] for one in repeats for rank in one["ranks"]]))
    assert all(value >= 0 for value in found.measured.values())


def test_parts_of_a_known_step():
    one = measurement([20.0, 22.0], [10.0, 11.0, 14.0], busy=17.5)
    compute, waiting = (10 + 11 + 14) / 3, (4 + 3 + 0) / 3
    assert parts([one]).measured == pytest.approx(
        {"compute": compute, "waiting": waiting, "communication": 17.5 - 14, "data": 0.5, "other": 0.25}
    )


def test_an_older_record_has_communication_and_waiting_in_one():
    found = StepParts(compute=0.7, communication=0.2, data=0.1, other=0.0).scaled(50.0)
    assert found.measured == pytest.approx({"compute": 35.0, "communication and waiting": 10.0, "data": 5.0, "other": 0.0})
    assert found.whole == pytest.approx(50.0)


def test_one_worker_has_no_communication_whatever_noise_says():
    found = parts([measurement([12.0], [10.0])])
    assert (found.communication, found.waiting) == (0.0, 0.0)
    assert size_figures([measurement([12.0], [10.0])])["allreduce_ms"] is None


def test_a_study_says_its_efficiency_as_a_run_does_and_one_worker_has_none():
    two = size_figures([measurement([12.0], [10.0, 10.0])] * 2)["against_alone"]
    assert two == {"efficiency": 0.5, "interval": [0.49, 0.51], "pairs": 8}
    assert size_figures([measurement([12.0], [10.0])] * 2)["against_alone"] is None


def test_the_slowest_rank_counts():
    figures = size_figures([measurement(laps_of_all([[10.0, 10.0], [20.0, 20.0]]), [9.0, 19.0])])
    assert figures["images_per_second"] == pytest.approx(64 / 0.020)
    assert figures["images_per_second_per_worker"] == pytest.approx(32 / 0.020)


def test_figures_are_medians_over_rounds_and_percentiles_over_all_steps():
    repeats = [measurement([step] * 10, [5.0, 5.0]) for step in (10.0, 20.0, 1000.0)]
    repeats[1]["step_ms"][0] = 22.0
    figures = size_figures(repeats)
    assert figures["images_per_second"] == pytest.approx(64 / 0.0202)
    assert figures["step_ms"] == {"p50": 20.0, "p90": 1000.0}
    assert figures["allreduce_ms"] == 7.0


@given(LAPS)
def test_laps_of_all_ranks_add_up_to_the_slowest_ranks_time(ranks):
    laps = laps_of_all(ranks)
    assert sum(laps) == pytest.approx(max(map(sum, ranks)))
    assert all(lap > 0 for lap in laps)
    assert all(lap <= max(times) * (1 + 1e-9) for lap, times in zip(laps, zip(*ranks, strict=True), strict=True))


def test_ranks_that_are_late_in_turns_are_not_counted_twice():
    assert laps_of_all([[10.0, 20.0], [20.0, 10.0]]) == [20.0, 10.0]
    assert laps_of_all([[10.0, 12.0]]) == [10.0, 12.0]


@pytest.mark.parametrize("workers, step, expected", [(1, 10.0, 1.0), (4, 10.0, 1.0), (4, 12.5, 0.8), (256, 11.0, 10 / 11)])
def test_efficiency_of_known_times(workers, step, expected):
    value, (low, high) = efficiency([measurement([step] * 4, [9.0] * workers)] * 3, [measurement([10.0] * 4, [9.0])] * 3)
    assert value == low == high == pytest.approx(expected)


def test_the_baseline_is_1_without_spread():
    baseline = [measurement([step], [9.0]) for step in (9.0, 10.0, 12.0)]
    assert efficiency(baseline, baseline) == (1.0, (1.0, 1.0))


def drawn(random: np.random.Generator, mean: float, count: int, ranks: int) -> list[dict]:
    """Rounds whose pace varies by 3 % and whose steps vary by 5 %."""
    paces = mean * random.normal(1, 0.03, count)
    return [measurement(pace * random.normal(1, 0.05, 20), [9.0] * ranks) for pace in paces]


def test_the_interval_covers_the_true_efficiency_and_narrows_with_rounds():
    random = np.random.default_rng(5)
    widths = {}
    for count, least in ((3, 0.80), (15, 0.85)):
        found = [efficiency(drawn(random, 12.5, count, 4), drawn(random, 10.0, count, 1))[1] for _ in range(60)]
        assert np.mean([low <= 0.8 <= high for low, high in found]) >= least
        widths[count] = np.mean([high - low for low, high in found])
    assert 0.01 < widths[15] < widths[3] / 1.5 < 0.15
