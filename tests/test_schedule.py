"""The learning rate: the paper's numbers, and what holds for every schedule."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.policy.recipe import load_recipe
from lbsgd.policy.schedule import build_schedule

PAPER_EPOCH = 1281167 // 8192


def schedule_of(*overrides, global_batch=8192, iterations_per_epoch=PAPER_EPOCH):
    recipe = load_recipe("goyal2017", overrides)
    return build_schedule(recipe, global_batch=global_batch, iterations_per_epoch=iterations_per_epoch)


@pytest.mark.parametrize(
    ("iteration", "lr"),
    [
        (0, 0.1),
        (780, 3.2),
        (30 * 156 - 1, 3.2),
        (30 * 156, 0.32),
        (60 * 156 - 1, 0.32),
        (60 * 156, 0.032),
        (80 * 156 - 1, 0.032),
        (80 * 156, 0.0032),
        (14039, 0.0032),
    ],
)
def test_the_paper_at_8192(iteration, lr):
    schedule = schedule_of()
    assert schedule.lr(iteration) == lr  # exactly
    assert (schedule.warmup_iterations, schedule.total_iterations) == (780, 14040)


def test_the_paper_warms_up_by_a_constant_amount_each_iteration():
    schedule = schedule_of()
    rates = [schedule.lr(iteration) for iteration in range(781)]
    steps = [after - before for before, after in zip(rates, rates[1:], strict=False)]
    assert steps == pytest.approx([3.1 / 780] * 780)
    assert schedule.lr(390) == pytest.approx(1.65)


@pytest.mark.parametrize(
    ("global_batch", "peak"),
    [(64, 0.025), (128, 0.05), (256, 0.1), (512, 0.2), (768, 0.3), (1024, 0.4), (16384, 6.4), (65536, 25.6)],
)
def test_linear_scaling_gives_the_papers_rates(global_batch, peak):
    assert schedule_of(global_batch=global_batch).peak_lr == peak


@pytest.mark.parametrize("global_batch", [64, 128, 256])
def test_a_batch_up_to_the_reference_has_no_warmup(global_batch):
    schedule = schedule_of(global_batch=global_batch)
    assert schedule.warmup_iterations == 0
    assert schedule.lr(0) == schedule.peak_lr


def test_the_rivals_of_linear_scaling():
    assert schedule_of("learning_rate.scaling=sqrt").peak_lr == pytest.approx(0.1 * 32**0.5)
    unscaled = schedule_of("learning_rate.scaling=none")
    assert {unscaled.lr(iteration) for iteration in range(30 * 156)} == {0.1}


def test_constant_warmup_waits_at_the_reference():
    schedule = schedule_of("warmup.kind=constant")
    assert {schedule.lr(iteration) for iteration in range(780)} == {0.1}
    assert schedule.lr(780) == 3.2


@pytest.mark.parametrize("override", ["warmup.kind=none", "warmup.duration=0ep"])
def test_no_warmup_starts_at_the_peak(override):
    assert schedule_of(override).lr(0) == 3.2


def test_a_decay_point_inside_the_warmup_scales_the_rest_of_it():
    plain, early = schedule_of(), schedule_of('decay.at=["2ep"]')
    assert early.lr(311) == plain.lr(311)
    assert early.lr(312) == pytest.approx(plain.lr(312) / 10)
    assert early.lr(780) == 0.32


def test_decay_points_may_come_in_any_order_and_unit():
    assert schedule_of('decay.at=["80ep", "4680it", "60ep"]') == schedule_of()


def test_cosine_goes_from_the_end_of_the_warmup_to_the_end_of_the_run():
    schedule = schedule_of("decay.kind=cosine", "decay.end=0.2")
    assert schedule.lr(780) == 3.2
    assert schedule.lr((780 + 14040) // 2) == pytest.approx((3.2 + 0.2) / 2)
    assert schedule.lr(14039) == pytest.approx(0.2, abs=1e-6)


def test_polynomial_follows_its_power():
    schedule = schedule_of("decay.kind=polynomial", "decay.power=2")
    assert schedule.lr(780) == 3.2
    assert schedule.lr((780 + 14040) // 2) == pytest.approx(3.2 / 4)


def test_constant_decay_stays_at_the_peak():
    schedule = schedule_of("decay.kind=constant")
    assert {schedule.lr(iteration) for iteration in range(780, 14040)} == {3.2}


@pytest.mark.parametrize("iteration", [-1, 14040])
def test_outside_the_run_there_is_no_rate(iteration):
    with pytest.raises(ValueError, match="outside the run's 0 to 14039"):
        schedule_of().lr(iteration)


scalings = st.sampled_from(["linear", "sqrt", "none"])
warmups = st.sampled_from(["gradual", "constant", "none"])
decays = st.sampled_from(["steps", "cosine", "polynomial", "constant"])
lengths = st.integers(1, 40)


@given(scalings, warmups, decays, st.integers(1, 10**6), lengths, st.integers(0, 120))
def test_rates_are_positive_and_at_most_the_peak(scaling, warmup, decay, global_batch, length, duration):
    schedule = schedule_of(
        f"learning_rate.scaling={scaling}",
        f"warmup.kind={warmup}",
        f"warmup.duration={duration}ep",
        f"decay.kind={decay}",
        global_batch=global_batch,
        iterations_per_epoch=length,
    )
    rates = [schedule.lr(iteration) for iteration in range(schedule.total_iterations)]
    assert min(rates) > 0
    assert max(rates) <= schedule.peak_lr * (1 + 1e-15)
    falling = rates[schedule.warmup_iterations :]
    assert falling == sorted(falling, reverse=True)


@given(st.sampled_from(["linear", "sqrt"]), st.integers(257, 10**6), lengths, st.integers(1, 30))
def test_gradual_warmup_rises_from_the_reference_to_the_peak(scaling, global_batch, length, duration):
    schedule = schedule_of(
        f"learning_rate.scaling={scaling}",
        f"warmup.duration={duration}ep",
        "decay.kind=constant",
        global_batch=global_batch,
        iterations_per_epoch=length,
    )
    rates = [schedule.lr(iteration) for iteration in range(schedule.warmup_iterations + 1)]
    assert (rates[0], rates[-1]) == (0.1, schedule.peak_lr)
    step = (schedule.peak_lr - 0.1) / schedule.warmup_iterations
    for before, after in zip(rates, rates[1:], strict=False):
        assert after - before == pytest.approx(step, rel=1e-6, abs=1e-12)


@given(st.decimals("0.01", 10, places=2), st.integers(1, 2**16), st.integers(1, 200))
def test_step_levels_are_the_exact_products(reference, global_batch, length):
    schedule = schedule_of(
        f"learning_rate.reference={reference}",
        "learning_rate.reference_batch=256",
        "warmup.kind=none",
        global_batch=global_batch,
        iterations_per_epoch=length,
    )
    for reached, epoch in enumerate((0, 30, 60, 80)):
        exact = Fraction(reference) * global_batch / 256 / 10**reached
        assert schedule.lr(epoch * length) == float(exact)


@given(lengths, st.integers(0, 20), st.lists(st.integers(0, 100), min_size=1, max_size=4))
def test_epochs_and_iterations_say_the_same(length, warmup, points):
    def schedule(unit, count):
        at = ", ".join(f'"{count(point)}{unit}"' for point in points)
        overrides = (f"warmup.duration={count(warmup)}{unit}", f"decay.at=[{at}]")
        return schedule_of(*overrides, iterations_per_epoch=length)

    assert schedule("ep", lambda epochs: epochs) == schedule("it", lambda epochs: epochs * length)
