"""Gradients of backward, and how much of their communication it hides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.models import MODELS, describe
from lbsgd.projection.backward import Gradient, generic_profile, network_profile
from lbsgd.projection.cluster import Collective
from lbsgd.projection.collective import Cost
from lbsgd.projection.overlap import Communication, Fusion, communicate, exposed

MB = 1e6
EAGER = Fusion(threshold=64 * MB, cycle=0.0)
ALONE = Fusion(threshold=0, cycle=0.0)

costs = st.builds(Cost, st.floats(0, 1e-2), st.floats(1e-12, 1e-7), st.just("test"))
profiles = st.lists(st.builds(Gradient, st.floats(0, 1), st.floats(4, 1e8)), min_size=1, max_size=30).map(sorted)


def collective(latency=0.0, per_byte=1e-9, share=1.0):
    return Collective((Cost(latency, per_byte, "test"),), (Cost(latency, per_byte / share, "test"),))


@pytest.mark.parametrize("name", MODELS)
def test_a_networks_gradients_are_all_there_in_the_order_of_backward(name):
    network = describe(name, 1000)
    profile = network_profile(network, 4)
    assert sum(gradient.size for gradient in profile) == 4 * sum(p.size for p in network.parameters.values())
    assert [gradient.ready for gradient in profile] == sorted(gradient.ready for gradient in profile)
    assert profile[0] == (pytest.approx(profile[0].ready), 4 * 1000)  # the linear layer's bias
    assert profile[-1].ready == pytest.approx(1)


def test_resnet50_does_the_multiplications_of_its_paper():
    """The stem makes 118 of about 4.1 billion; its gradient is the last."""
    profile = network_profile(describe("resnet50", 1000), 4)
    before_stem = max(gradient.ready for gradient in profile if gradient.ready < profile[-1].ready)
    assert 1 - before_stem == pytest.approx(0.118 / 4.09, rel=0.02)


def test_most_of_resnet50_is_ready_early():
    profile = network_profile(describe("resnet50", 1000), 4)
    assert sum(size for ready, size in profile if ready < 0.25) > 0.6 * sum(size for _, size in profile)


def test_a_generic_network_begins_and_ends_with_its_shares():
    profile = generic_profile(100 * MB, 0.5, 0.1)
    assert sum(size for _, size in profile) == pytest.approx(100 * MB)
    assert profile[0] == (0.0, pytest.approx(50 * MB))
    assert profile[-1] == (1.0, pytest.approx(10 * MB))
    assert len(profile) == len(generic_profile(100 * MB, 0.0, 0.0)) + 2


def test_the_recurrence_by_hand():
    """Ready at 0.5 and 1 s, a second each: the second waits for the first."""
    done = communicate([Gradient(0.5, 1e9), Gradient(1.0, 1e9)], 1.0, collective(), ALONE)
    assert (done.end, done.busy, done.largest) == pytest.approx((2.5, 2.0, 1e9))


def test_what_becomes_ready_meanwhile_goes_into_one_message():
    gradients = [Gradient(0.1, 10 * MB), *(Gradient(0.1 + 0.001 * index, 10 * MB) for index in range(1, 5))]
    fused = communicate(gradients, 1.0, collective(latency=0.5), EAGER)
    assert fused.busy == pytest.approx(2 * 0.5 + 0.05)
    assert fused.largest == 40 * MB
    assert communicate(gradients, 1.0, collective(latency=0.5), ALONE).busy == pytest.approx(5 * 0.5 + 0.05)


def test_the_threshold_bounds_a_message_but_not_a_gradient():
    gradients = [Gradient(1.0, 40 * MB)] * 3 + [Gradient(1.0, 400 * MB)]
    assert communicate(gradients, 1.0, collective(), EAGER).largest == 400 * MB
    assert communicate(gradients[:3], 1.0, collective(), EAGER).largest == 40 * MB


def test_allreduce_speeds_up_when_backward_ends():
    """2 s at half rate do the first half, 1 s at the full rate the rest."""
    done = communicate([Gradient(0.0, 2e9)], 2.0, collective(share=0.5), ALONE)
    assert done.end == pytest.approx(3.0)


@given(profiles, costs, st.floats(1e-3, 1), st.sampled_from([EAGER, ALONE, Fusion(threshold=MB, cycle=5e-3)]))
def test_communication_takes_as_long_as_its_messages_and_ends_after_the_last_gradient(profile, cost, backward, fusion):
    done = communicate(profile, backward, Collective((cost,), (cost,)), fusion)
    last = profile[-1].ready * backward
    assert done.end >= last
    assert done.end <= last + fusion.cycle / 2 + done.busy + 1e-9
    assert done.busy >= cost.seconds(sum(gradient.size for gradient in profile)) * (1 - 1e-9)


@given(st.floats(0, 2), st.floats(0, 1), st.floats(0.01, 0.5))
def test_variation_only_adds(end, busy, spread):
    left = exposed(Communication(end, busy, 1.0), 1.0, spread)
    assert max(0.0, end - 1.0) - 1e-12 <= left <= max(0.0, end - 1.0) + 0.4 * spread * busy + 1e-12
    assert exposed(Communication(end, busy, 1.0), 1.0, 0.0) == max(0.0, end - 1.0)
