"""What an allreduce costs, against figures worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.projection.collective import Cost, Link, halving_doubling, in_turn, ring, three_phase, tree

BUS = Link("bus", 1e-6, 10e9)
NETWORK = Link("network", 1e-5, 1e9)


def test_a_ring_in_one_node():
    assert ring(4, 1, BUS, BUS) == Cost(pytest.approx(6e-6), pytest.approx(1.5 / 10e9), "bus")


def test_a_ring_over_nodes_crosses_the_network_twice_a_node_but_one():
    cost = ring(8, 32, BUS, NETWORK)
    assert cost.latency == pytest.approx(62 * 1e-5 + (510 - 62) * 1e-6)
    assert cost.per_byte == pytest.approx(2 * 255 / 256 / 1e9)
    assert cost.limit == "network"


def test_a_ring_is_as_fast_as_its_slowest_link():
    assert ring(8, 2, Link("bus", 0, 1e8), NETWORK).limit == "bus"


def test_the_papers_servers_exchange_the_bytes_it_says():
    """Section 4.2: 2 (p - 1) / p b each way, 2 log2(p) steps."""
    cost = halving_doubling(32, NETWORK)
    assert cost.latency == pytest.approx(10 * 1e-5)
    assert cost.seconds(100e6) - cost.latency == pytest.approx(2 * 31 / 32 * 0.1)


@given(st.integers(33, 63))
def test_other_numbers_than_powers_of_two_take_a_step_more_each_way(nodes):
    assert halving_doubling(nodes, NETWORK).latency == pytest.approx(12 * 1e-5)


def test_three_phases_add_up():
    cost = three_phase(8, 32, BUS, NETWORK)
    assert cost.latency == pytest.approx(14 * 1e-6 + 10 * 1e-5)
    assert cost.per_byte == pytest.approx(2 * 7 / 8 / 10e9 + 2 * 31 / 32 / 1e9)
    assert cost.limit == "network"


def test_a_tree_has_less_latency_than_a_ring_and_moves_no_fewer_bytes():
    assert tree(8, 64, BUS, NETWORK).latency < ring(8, 64, BUS, NETWORK).latency / 5
    assert tree(8, 64, BUS, NETWORK).per_byte > ring(8, 64, BUS, NETWORK).per_byte


def test_the_limit_of_phases_is_that_of_the_one_with_most_time_a_byte():
    assert in_turn([Cost(1, 2, "slow"), Cost(5, 1, "quick")]) == Cost(6, 3, "slow")
