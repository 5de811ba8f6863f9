"""The constants of the model, fitted on published measurements; benchmarks/projection_fit.py writes them to constants.toml.

None of them knows a system's name: what the command line describes is all that a prediction depends on.
"""

import tomllib
from dataclasses import dataclass
from importlib import resources

from lbsgd.projection.error_band import ErrorBand


@dataclass(frozen=True, kw_only=True)
class Constants:
    """Rates are of one direction; a GB is 10^9 bytes.

    backward_share: part of a step without communication that is backward, over which gradients become ready.
    straggler_spread: standard deviation of a worker's step over its mean; a step waits for the slowest.
    communication_spread: the same of the time that communication takes.
    bus_share: part of the bus inside a node that allreduce gets while backward runs.
    last_share: part of a network's bytes that is ready only when backward ends, where only their sum is known.
    pcie_gbyte, nvlink_gbyte: GB/s that a ring moves over each link inside a node.
    tcp_gbit: ceiling of TCP in Gbit/s, whatever the network.
    tcp_share, rdma_share: part of a network's nominal rate that is reached below that ceiling.
    copy_gbyte: GB/s of a copy between a GPU and its host's memory, where sums are made on the CPU.
    mpi_gbyte: GB/s that all ranks of a host sum there together, exchanges between them included.
    gloo_gbyte: GB/s through the host's memory where several allreduces are in flight: copies and sums of one beside another's.
    call_us: what any allreduce costs; the others: what each of its messages costs, in microseconds.
    """

    backward_share: float
    straggler_spread: float
    communication_spread: float
    bus_share: float
    last_share: float
    pcie_gbyte: float
    nvlink_gbyte: float
    tcp_gbit: float
    tcp_share: float
    rdma_share: float
    copy_gbyte: float
    mpi_gbyte: float
    gloo_gbyte: float
    call_us: float
    bus_us: float
    tcp_us: float
    rdma_us: float
    host_us: float


@dataclass(frozen=True, kw_only=True)
class Covered:
    """Least and greatest values of the published systems."""

    gpus: tuple[int, int]
    network_gbit: tuple[float, float]
    cpu_sums_gpus_per_node: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Published:
    """error_bands: of each kind of system (Cluster.kinds) of which enough was published."""

    constants: Constants
    error_bands: dict[str, ErrorBand]
    covered: Covered


def published() -> Published:
    """What constants.toml says."""
    content = tomllib.loads((resources.files(__package__) / "constants.toml").read_text())
    return Published(
        constants=Constants(**content["constants"]),
        error_bands={kind: ErrorBand(**values) for kind, values in content["error_bands"].items()},
        covered=Covered(**{name: tuple(ends) for name, ends in content["covered"].items()}),
    )
