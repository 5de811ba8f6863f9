"""Efficiency from measured steps: what is known of a machine is found again, on steps that are made up."""

import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.backends.phases import Phases
from lbsgd.measuring.efficiency import (
    DENSE_COUNT,
    NEIGHBOURS,
    SETTLING_STEPS,
    Pair,
    Pairing,
    as_array,
    is_measured,
    mean_over_ranks,
)
from lbsgd.measuring.steps import Step
from lbsgd.record.summary import RESOLUTION, efficiency_interval, scaling, time_split

EVERY = 50


class Machine:
    """Ranks of known times, in seconds: arithmetic of each alone, allreduce in full, and how much of it backward hides.

    pace(iteration): the factor by which the whole machine is slower at that moment.
    """

    def __init__(self, compute, *, allreduce=0.0, hidden=0.0, pace=lambda iteration: 1.0, seed=0, noise=0.0) -> None:
        self.compute, self.allreduce, self.hidden, self.pace = compute, allreduce, hidden, pace
        self.random, self.noise = np.random.default_rng(seed), noise

    def step(self, iteration: int, rank: int) -> Step:
        factor = self.pace(iteration) * math.exp(self.noise * self.random.normal())
        slowest, own = max(self.compute), self.compute[rank]
        exposed = self.allreduce * (1 - self.hidden)
        phases, busy = None, slowest + exposed
        if is_measured(iteration, EVERY):
            phases = Phases(staging=0.0, waiting=factor * (slowest - own), communication=factor * self.allreduce)
            busy = slowest + self.allreduce
        return Step(iteration, 0.1, 1.0, factor * busy + 0.003, 0.002, 0.001, phases)

    @property
    def efficiency(self) -> float:
        """The true one."""
        return fmean(self.compute) / (max(self.compute) + self.allreduce * (1 - self.hidden))

    def pairs(self, steps: int, stretch: int = 10_000) -> list[Pair]:
        """Those of a run that is interrupted by something else after each `stretch` steps."""
        found = []
        for rank in range(len(self.compute)):
            pairing = Pairing()
            for iteration in range(steps):
                pairing.add(self.step(iteration, rank))
                if (iteration + 1) % stretch == 0:
                    pairing.end_stretch()
            pairing.end_stretch()
            found.append(pairing.take())
        assert len({tuple(iteration for iteration, _ in one) for one in found}) == 1
        arrays = [as_array(pair for _, pair in one) for one in found]
        return mean_over_ranks(np.sum(arrays, axis=0), len(self.compute))


@given(
    compute=st.lists(st.floats(0.01, 0.05), min_size=2, max_size=5),
    allreduce=st.floats(0.0, 0.05),
    hidden=st.floats(0.0, 1.0),
)
def test_what_is_known_is_found_again(compute, allreduce, hidden):
    machine = Machine(compute, allreduce=allreduce, hidden=hidden)
    pairs = machine.pairs(200)
    assert len(pairs) == 19
    for one in pairs:
        assert one.efficiency == pytest.approx(machine.efficiency)
        assert one.compute == pytest.approx(fmean(compute))
        assert one.allreduce == pytest.approx(allreduce)
        assert one.compute + one.waiting + one.communication == pytest.approx(one.step)
        assert one.waiting == pytest.approx(max(compute) - fmean(compute), abs=1e-9)
        assert one.communication == pytest.approx(allreduce * (1 - hidden), abs=1e-9)


@pytest.mark.parametrize("cost", [0.0, 0.05, 0.20])
def test_a_known_cost_is_recovered_within_two_points_while_the_machine_changes_its_pace(cost):
    """Of a step: communication that backward does not hide. The machine is up to 1.5 times slower, in waves, and noisy."""
    alone = 0.030
    exposed = alone * cost / (1 - cost)
    pace = lambda iteration: 1.25 + 0.25 * math.sin(iteration / 60)  # noqa: E731
    found = []
    for seed in range(20):
        machine = Machine([alone, alone], allreduce=exposed, pace=pace, seed=seed, noise=0.02)
        values = [pair.efficiency for pair in machine.pairs(400)]
        low, high = efficiency_interval(values, seed)
        found.append((np.median(values), low <= 1 - cost <= high))
    values, covered = zip(*found, strict=True)
    assert np.abs(np.array(values) - (1 - cost)).max() < 0.02
    assert np.mean(covered) >= 0.9


def test_a_straggler_is_waiting_and_not_communication():
    machine = Machine([0.030, 0.039], allreduce=0.004, hidden=0.5, noise=0.01)
    pairs = machine.pairs(400)
    step = fmean(pair.step for pair in pairs)
    assert fmean(pair.waiting for pair in pairs) / step == pytest.approx(0.0045 / 0.041, abs=0.03)
    assert fmean(pair.communication for pair in pairs) / step == pytest.approx(0.002 / 0.041, abs=0.03)


@given(st.integers(2, 500))
def test_measured_steps_are_dense_at_first_and_then_as_far_apart_as_was_asked(every):
    found = [iteration for iteration in range(3000) if is_measured(iteration, every)]
    assert len(found) >= DENSE_COUNT or every > 150
    later = [iteration for iteration in found if iteration > 10 * DENSE_COUNT + every]
    assert set(np.diff(later)) <= {every}


def test_no_iteration_is_measured_when_it_is_off():
    assert not any(is_measured(iteration, 0) for iteration in range(1000))


def test_what_comes_between_keeps_steps_apart():
    """After an evaluation the machine is another: its steps are no neighbours of those before."""
    machine = Machine([0.02, 0.02], allreduce=0.01, pace=lambda iteration: 1.0 if iteration < 46 else 3.0)
    assert all(pair.efficiency == pytest.approx(machine.efficiency) for pair in machine.pairs(92, stretch=46))


def test_steps_that_settle_and_the_first_measured_one_do_not_count():
    slow = lambda iteration: 9.0 if iteration < SETTLING_STEPS or iteration == 5 else 1.0  # noqa: E731
    machine = Machine([0.02, 0.02], allreduce=0.01, pace=slow)
    pairs = machine.pairs(20)
    assert len(pairs) == 1
    assert pairs[0].efficiency == pytest.approx(machine.efficiency)


def test_a_measured_step_with_too_few_neighbours_has_no_pair():
    pairing = Pairing(warm=True)
    machine = Machine([0.02], allreduce=0.01)
    for iteration in (3, 4, 5):
        pairing.add(machine.step(iteration, 0))
    pairing.end_stretch()
    assert pairing.take() == []


def test_a_pair_is_found_as_soon_as_its_neighbours_are_there():
    pairing = Pairing(warm=True)
    machine = Machine([0.02], allreduce=0.01)
    for iteration in range(5 + NEIGHBOURS):
        pairing.add(machine.step(iteration, 0))
    assert pairing.take() == []
    pairing.add(machine.step(5 + NEIGHBOURS, 0))
    assert [iteration for iteration, _ in pairing.take()] == [5]


def lines_of(pairs: list[Pair]) -> tuple[list[dict], list[dict]]:
    """Lines of metrics.jsonl: steps and efficiencies."""
    named = ("step", "compute", "waiting", "communication", "allreduce")
    steps = [{"step": n, "step_ms": 1000 * pair.step + 3, "data_ms": 2.0, "other_ms": 1.0} for n, pair in enumerate(pairs)]
    efficiencies = [
        {"step": n, "efficiency": pair.efficiency, **{f"{name}_ms": 1000 * getattr(pair, name) for name in named}}
        for n, pair in enumerate(pairs)
    ]
    return steps, efficiencies


def test_the_figures_of_a_run_follow_from_its_pairs():
    machine = Machine([0.030, 0.039], allreduce=0.010, hidden=0.6)
    steps, efficiencies = lines_of(machine.pairs(200))
    found = scaling(steps, efficiencies, workers=2, global_batch=64, seed=0)
    assert found["efficiency"] == pytest.approx(machine.efficiency)
    assert found["interval"] == pytest.approx([machine.efficiency - RESOLUTION, machine.efficiency + RESOLUTION])
    assert (found["pairs"], found["baseline_workers"], found["method"]) == (19, 1, "measured-steps")
    assert found["hidden"] == pytest.approx(0.6)
    assert found["allreduce_ms"] == pytest.approx(10.0)
    split = time_split(steps, efficiencies, 2)
    assert sum(split.values()) == pytest.approx(1)
    assert split["waiting"] * 46.0 == pytest.approx(4.5)
    assert split["communication"] * 46.0 == pytest.approx(4.0)


def test_too_few_pairs_are_no_efficiency():
    steps, efficiencies = lines_of(Machine([0.03, 0.03], allreduce=0.01).pairs(30))
    assert len(efficiencies) == 2
    assert scaling(steps, efficiencies, workers=2, global_batch=64, seed=0)["efficiency"] is None


def test_one_worker_has_no_efficiency_and_no_communication():
    steps, _ = lines_of(Machine([0.03, 0.03], allreduce=0.01).pairs(200))
    found = scaling(steps, [], workers=1, global_batch=32, seed=0)
    assert (found["efficiency"], found["interval"], found["baseline_workers"]) == (None, None, 1)
    split = time_split(steps, [], 1)
    assert (split["communication"], split["waiting"]) == (0.0, 0.0)
    assert sum(split.values()) == pytest.approx(1)
