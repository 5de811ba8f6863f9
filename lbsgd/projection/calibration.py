"""The constants of the model, fitted on published measurements; benchmarks/projection_fit.py writes them to constants.toml.

None of them knows a system's name: what the command line describes is all that a prediction depends on.
"""

import tomllib
from dataclasses import dataclass
from importlib import resources


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
    mpi_gbyte, gloo_gbyte: GB/s through the host's memory: copies from and to the GPU, and sums on the CPU.
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
    mpi_gbyte: float
    gloo_gbyte: float
    call_us: float
    bus_us: float
    tcp_us: float
    rdma_us: float
    host_us: float


@dataclass(frozen=True, kw_only=True)
class ErrorBand:
    """Absolute errors over published rows, in points of efficiency, each row predicted without its own system's rows."""

    rows: int
    median_points: float
    p90_points: float


def published() -> tuple[Constants, ErrorBand]:
    """What constants.toml says."""
    content = tomllib.loads((resources.files(__package__) / "constants.toml").read_text())
    return Constants(**content["constants"]), ErrorBand(**content["error_band"])
