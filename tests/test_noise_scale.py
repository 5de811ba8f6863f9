"""The gradient noise scale: unbiased where it is known, and recorded by runs of several workers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.policy.noise_scale import SMOOTHING, NoiseScale, estimates, samples_factor, steps_factor
from lbsgd.record.summary import noise_scale

DIMENSIONS = 20


def squares_of(random, gradient, deviations, workers, small, count):
    """|g_small|^2, the mean over workers, and |g_big|^2, of `count` steps on a quadratic: an image's gradient is normal."""
    own = gradient + random.normal(size=(count, workers, len(gradient))) * deviations / np.sqrt(small)
    return [((of**2).sum(1).mean(), (of.mean(0) ** 2).sum()) for of in own]


@pytest.mark.parametrize(("workers", "small"), [(2, 4), (4, 16), (32, 8)])
def test_it_is_unbiased_on_a_quadratic_of_known_covariance(workers, small):
    """Each part within 5 % of the truth: the mean over many steps, as smoothing would have it without an end."""
    random = np.random.default_rng(workers)
    gradient, deviations = random.normal(size=DIMENSIONS), random.uniform(1, 6, DIMENSIONS)
    squares = squares_of(random, gradient, deviations, workers, small, 20_000)
    single = [next(estimates([one], small, workers * small)) for one in squares]
    assert np.mean([one.gradient_squared for one in single]) == pytest.approx((gradient**2).sum(), rel=0.05)
    assert np.mean([one.trace for one in single]) == pytest.approx((deviations**2).sum(), rel=0.05)


def test_smoothed_it_comes_near_the_true_scale_and_follows_it():
    random = np.random.default_rng(0)
    gradient, deviations = np.ones(DIMENSIONS), np.full(DIMENSIONS, 8.0)
    found = []
    for factor in (1.0, 0.5):  # the gradient shrinks as training goes on, and the scale grows fourfold
        squares = squares_of(random, factor * gradient, deviations, 16, 64, 400)
        found.append(np.median([one.images for one in list(estimates(squares, 64, 1024))[100:]]))
    assert found == pytest.approx([64, 256], rel=0.1)


def test_the_first_estimate_is_the_measured_one_and_each_part_is_smoothed_by_itself():
    one, two = estimates([(3.0, 2.0), (5.0, 2.0)], 10, 20)
    assert (one.gradient_squared, one.trace) == (pytest.approx(1.0), pytest.approx(20.0))
    weights = np.array([SMOOTHING, 1.0]) / (1 + SMOOTHING)
    assert (two.gradient_squared, two.trace) == pytest.approx((weights @ [1.0, -1.0], weights @ [20.0, 60.0]))


@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_images_and_steps_trade_as_the_paper_says(batch, scale):
    """(S / S_min - 1) (E / E_min - 1) = 1 (McCandlish et al. 2018, equation 2.11)."""
    assert (samples_factor(batch, scale) - 1) * (steps_factor(batch, scale) - 1) == pytest.approx(1)


@pytest.mark.parametrize("parts", [(-1.0, 5.0), (0.0, 5.0), (1.0, -5.0)])
def test_where_noise_hides_the_gradient_there_is_no_scale(parts):
    assert NoiseScale(*parts).images is None


def test_the_record_has_what_the_lines_say():
    lines = [{"worker_gradient_squared": 3.0, "gradient_squared": 2.0}] * 3
    found = noise_scale(lines, workers=2, global_batch=20)
    assert (found["images"], found["samples_factor"], found["steps_factor"]) == pytest.approx((20.0, 2.0, 2.0))
    assert noise_scale(lines[:2], workers=2, global_batch=20) is None
    assert noise_scale(lines, workers=1, global_batch=20) is None
    assert noise_scale([{"efficiency": 0.9}] * 5, workers=2, global_batch=20) is None  # of a run before it was recorded
