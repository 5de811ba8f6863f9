"""What a described cluster can do: the least of the bus, the network, the transport and the host."""

from dataclasses import replace

import pytest

from lbsgd.errors import UsageError
from lbsgd.projection.calibration import published
from lbsgd.projection.cluster import Cluster

CONSTANTS = published().constants
CLUSTER = Cluster(gpus_per_node=8, network_gbit=100, transport="rdma", intra_node="nvlink", allreduce="nccl")
BIG = 64e6


def seconds(ranks=64, size=BIG, **changes):
    return replace(CLUSTER, **changes).collective(CONSTANTS, ranks).seconds(size)


def limit(ranks=64, size=BIG, **changes):
    return replace(CLUSTER, **changes).collective(CONSTANTS, ranks).limit(size)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "network (100 Gbit/s)"),
        ({"transport": "tcp"}, "transport (tcp)"),
        ({"transport": "tcp", "network_gbit": 10}, "network (10 Gbit/s)"),
        ({"intra_node": "pcie"}, "bus inside a node (pcie)"),
        ({"allreduce": "mpi"}, "host memory (mpi)"),
        ({"allreduce": "mpi", "network_gbit": 1}, "network (1 Gbit/s)"),
        ({"allreduce": "gloo"}, "host memory (gloo)"),
        ({"ranks": 8}, "bus inside a node (nvlink)"),
        ({"size": 4}, "latency"),
    ],
)
def test_the_slowest_part_is_the_limit(changes, expected):
    assert limit(**changes) == expected


def test_a_faster_network_behind_a_ceiling_is_no_faster():
    assert seconds(transport="tcp", network_gbit=100) == seconds(transport="tcp", network_gbit=400)
    assert seconds(transport="rdma", network_gbit=100) > seconds(transport="rdma", network_gbit=400)


def test_published_rates_of_slow_networks_are_met():
    """10 Gbit/s Ethernet was measured at 8.9 to 9.8 Gbit/s on 8 and 16 GPUs, whatever their number."""
    for ranks in (8, 16):
        took = seconds(ranks, 440e6, gpus_per_node=4, transport="tcp", network_gbit=10, intra_node="pcie")
        assert 8.9 < 440e6 * 8 * 2 * (ranks - 1) / ranks / took / 1e9 < 9.8


def test_gradients_that_go_through_the_host_pay_for_copies_sums_and_the_network_in_turn():
    """By hand, for a message so large that latencies do not count."""
    copies = 2 / (CONSTANTS.copy_gbyte * 1e9)
    sums = 8 * 63 / 64 / (CONSTANTS.mpi_gbyte * 1e9)
    network = 2 * 7 / 8 / (100e9 / 8 * CONSTANTS.rdma_share)
    assert seconds(64, 100e9, allreduce="mpi") == pytest.approx(100e9 * (copies + sums + network), rel=1e-3)


def test_ranks_of_a_host_share_its_memory():
    """One rank a node, or eight, of as many nodes: eight times the sums in each host's memory, and else the same."""
    one, eight = (seconds(8 * local, 100e9, gpus_per_node=local, allreduce="mpi") for local in (1, 8))
    more = (8 * 63 / 64 - 7 / 8) / (CONSTANTS.mpi_gbyte * 1e9)
    assert eight - one == pytest.approx(100e9 * more, rel=1e-2)


def test_a_cluster_s_kind_goes_from_the_narrowest_to_the_widest():
    assert replace(CLUSTER, allreduce="mpi").kinds(64, fused=False) == [
        "mpi over rdma, tensor by tensor",
        "mpi over rdma",
        "sums on the CPU over rdma",
        "sums on the CPU",
        "any allreduce",
    ]
    assert CLUSTER.kinds(8, fused=True)[:2] == ["nccl inside a node, fused", "nccl inside a node"]


def test_sums_on_the_cpu_leave_the_bus_to_backward():
    on_cpu = replace(CLUSTER, allreduce="mpi").collective(CONSTANTS, 64)
    on_gpu = replace(CLUSTER, intra_node="pcie").collective(CONSTANTS, 64)
    assert on_cpu.seconds_beside_backward(BIG) == on_cpu.seconds(BIG)
    assert on_gpu.seconds_beside_backward(BIG) > on_gpu.seconds(BIG)


def test_one_node_needs_no_network_and_two_do():
    assert seconds(8, network_gbit=None) > 0
    with pytest.raises(UsageError, match="--network-gbit"):
        seconds(16, network_gbit=None)
