"""Predicted steps: their parts, what they grow with, and the published figures."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.errors import UsageError
from lbsgd.models import describe
from lbsgd.projection.backward import generic_profile, network_profile
from lbsgd.projection.calibration import published
from lbsgd.projection.cluster import Cluster
from lbsgd.projection.overlap import Fusion
from lbsgd.projection.prediction import Workload, predict, slowest_of

CONSTANTS = published().constants
FUSION = Fusion(threshold=64e6, cycle=5e-3)
RESNET50 = network_profile(describe("resnet50", 1000), 4)
CLUSTER = Cluster(gpus_per_node=8, network_gbit=50, transport="tcp", intra_node="nvlink", allreduce="nccl")
WORKLOAD = Workload(step=0.25, baseline_gpus=1, gradients=RESNET50, overlap=True, fusion=FUSION)

clusters = st.builds(
    Cluster,
    gpus_per_node=st.sampled_from([1, 4, 8, 16]),
    network_gbit=st.floats(1, 800),
    transport=st.sampled_from(["tcp", "rdma"]),
    intra_node=st.sampled_from(["nvlink", "pcie"]),
    allreduce=st.sampled_from(["nccl", "mpi", "gloo"]),
)


def project(gpus, workload=WORKLOAD, cluster=CLUSTER):
    return predict(workload, lambda ranks: cluster.collective(CONSTANTS, ranks), CONSTANTS, gpus)


@pytest.mark.parametrize("transport", ["tcp", "rdma"])
@pytest.mark.parametrize("gradients", [RESNET50, generic_profile(102.2e6, 0.0, CONSTANTS.last_share)], ids=["model", "size"])
def test_the_papers_256_gpus_scale_at_90_percent(gradients, transport):
    """29 h on 8 GPUs and 1 h on 256: 231.9 and 256 ms per step, 90.6 %."""
    workload = replace(WORKLOAD, step=0.2319, baseline_gpus=8, gradients=gradients)
    (prediction,) = project([256], workload, replace(CLUSTER, allreduce="gloo", transport=transport))
    assert prediction.efficiency == pytest.approx(0.906, abs=0.02)


@given(clusters, st.integers(1, 512), st.booleans())
def test_parts_add_up_and_efficiency_is_a_fraction(cluster, gpus, overlap):
    (prediction,) = project([gpus], replace(WORKLOAD, overlap=overlap), cluster)
    step = prediction.step
    assert step.total == pytest.approx(step.compute + step.waiting + step.exposed)
    assert prediction.efficiency == pytest.approx(0.25 / step.total)
    assert 0 < prediction.efficiency <= 1


@given(clusters)
def test_overlap_never_costs_more_than_it_hides_at_the_bus(cluster):
    """Sent beside backward, at least as much is over when backward ends as when all is sent after it."""
    (beside,) = project([64], WORKLOAD, cluster)
    (after,) = project([64], replace(WORKLOAD, overlap=False), cluster)
    assert beside.efficiency >= after.efficiency - 0.02


@given(clusters, st.sampled_from([2, 8, 32]))
def test_the_baseline_itself_is_predicted_as_measured(cluster, baseline):
    workload = replace(WORKLOAD, step=10.0, baseline_gpus=baseline)
    (prediction,) = project([baseline], workload, cluster)
    assert prediction.step.total == pytest.approx(10.0)
    assert prediction.efficiency == pytest.approx(1.0)


def test_more_gpus_slower_networks_and_larger_gradients_cost():
    efficiencies = [prediction.efficiency for prediction in project([1, 8, 64, 256, 4096])]
    assert efficiencies == sorted(efficiencies, reverse=True)
    assert efficiencies[0] == 1.0
    slow = project([64], cluster=replace(CLUSTER, network_gbit=1))[0]
    assert slow.efficiency < 0.2
    assert slow.step.bottleneck == "network (1 Gbit/s)"
    heavy = replace(WORKLOAD, gradients=generic_profile(1000e6, 0.0, CONSTANTS.last_share))
    assert project([64], heavy)[0].efficiency < efficiencies[2]


def test_a_step_shorter_than_its_own_communication_is_refused():
    with pytest.raises(UsageError, match="--step-ms 1 on 64 GPUs"):
        project([64], replace(WORKLOAD, step=0.001, baseline_gpus=64))


def test_the_slowest_of_many_workers():
    """Expected maxima of normal samples (tables of order statistics)."""
    assert slowest_of(1) == 0
    assert [slowest_of(n) for n in (8, 64, 256)] == pytest.approx([1.424, 2.355, 2.82], rel=0.02)
