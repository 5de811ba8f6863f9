"""A described cluster, and what an allreduce costs on it.

The rate between nodes is the least of what the network, the transport, the bus inside a node and, where sums are made on the
CPU, the host can do: name plates of networks say little by themselves.
"""

import math
from dataclasses import dataclass, replace

from lbsgd.errors import UsageError
from lbsgd.projection.calibration import Constants
from lbsgd.projection.collective import Cost, Link, halving_doubling, in_turn, ring, three_phase, tree

LATENCY = "latency"
ANY_KIND = "any allreduce"


@dataclass(frozen=True)
class Collective:
    """An allreduce on some number of ranks: it takes the cheapest of `costs`; of `beside_backward` while backward runs."""

    costs: tuple[Cost, ...]
    beside_backward: tuple[Cost, ...]

    def seconds(self, size: float) -> float:
        return min(cost.seconds(size) for cost in self.costs)

    def seconds_beside_backward(self, size: float) -> float:
        return min(cost.seconds(size) for cost in self.beside_backward)

    def limit(self, size: float) -> str:
        """What decides the time of this size: "latency" or the name of a link."""
        cheapest = min(self.beside_backward, key=lambda cost: cost.seconds(size))
        return LATENCY if cheapest.latency > size * cheapest.per_byte else cheapest.limit


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Nodes of equal kind. network_gbit: nominal rate of a node's network, all its cards together; None where it is not known.

    transport: "tcp" or "rdma". intra_node: "pcie" or "nvlink". allreduce: "nccl", "mpi" or "gloo"; the latter two sum on the
    CPU: mpi those of every rank, gloo, as in the paper's three phases, those of a whole node.
    """

    gpus_per_node: int
    network_gbit: float | None
    transport: str
    intra_node: str
    allreduce: str

    def collective(self, constants: Constants, ranks: int) -> Collective:
        """The allreduce of `ranks` ranks that fill one node after the other; of several nodes, the last one counts as full.

        Raises UsageError when they need a network whose rate is not known.
        """
        return Collective(self._costs(constants, ranks, 1.0), self._costs(constants, ranks, constants.bus_share))

    def kinds(self, ranks: int, *, fused: bool) -> list[str]:
        """What this cluster is called when `ranks` ranks run on it, from the narrowest kind to the widest."""
        reach = f"over {self.transport}" if ranks > self.gpus_per_node else "inside a node"
        sums = "sums on the GPUs" if self.allreduce == "nccl" else "sums on the CPU"
        library = f"{self.allreduce} {reach}"
        return [f"{library}, {'fused' if fused else 'tensor by tensor'}", library, f"{sums} {reach}", sums, ANY_KIND]

    def _costs(self, constants: Constants, ranks: int, bus_share: float) -> tuple[Cost, ...]:
        """The ways open to it. The GPUs' bus is shared with backward; copies to the host and the network are not."""
        local, nodes = min(ranks, self.gpus_per_node), math.ceil(ranks / self.gpus_per_node)
        bus = self._bus(constants, bus_share)
        network = self._network(constants, ranks) if nodes > 1 else bus
        if self.allreduce == "mpi":
            between = halving_doubling(nodes, network) if nodes > 1 else Cost(0.0, 0.0, LATENCY)
            ways = [in_turn([self._sums_of_all_ranks(constants, local, ranks), between])]
        elif self.allreduce == "gloo" and nodes > 1:
            ways = [three_phase(local, nodes, bus, self._through_host(network, constants))]
        elif nodes > 1:
            ways = [ring(local, nodes, bus, network), tree(local, nodes, bus, network)]
        else:
            ways = [ring(local, 1, bus, bus)]
        call = Cost(constants.call_us * 1e-6, 0.0, LATENCY)
        return tuple(in_turn([way, call]) for way in ways)

    def _bus(self, constants: Constants, share: float) -> Link:
        gbyte = {"pcie": constants.pcie_gbyte, "nvlink": constants.nvlink_gbyte}[self.intra_node]
        return Link(f"bus inside a node ({self.intra_node})", constants.bus_us * 1e-6, gbyte * 1e9 * share)

    def _network(self, constants: Constants, ranks: int) -> Link:
        """The nominal rate times what is reached of it, up to the transport's ceiling."""
        gbit = self.network_gbit
        if gbit is None:
            raise UsageError(
                f"{ranks} GPUs at {self.gpus_per_node} per node need a network; give its rate per node as --network-gbit"
            )
        if self.transport == "rdma":
            return Link(f"network ({gbit:g} Gbit/s)", constants.rdma_us * 1e-6, gbit * constants.rdma_share * 1e9 / 8)
        reached = min(gbit * constants.tcp_share, constants.tcp_gbit)
        name = "transport (tcp)" if reached == constants.tcp_gbit else f"network ({gbit:g} Gbit/s)"
        return Link(name, constants.tcp_us * 1e-6, reached * 1e9 / 8)

    def _sums_of_all_ranks(self, constants: Constants, local: int, ranks: int) -> Cost:
        """What ranks that sum on the CPU spend besides sending, one thing after the other: each copies S from its GPU and back,
        and sums (p - 1) / p S in the memory that the host's ranks share. Rounds of messages as in halving and doubling."""
        seconds = 2 / constants.copy_gbyte + local * (ranks - 1) / ranks / constants.mpi_gbyte
        latency = 2 * math.ceil(math.log2(ranks)) * constants.host_us * 1e-6
        return Cost(latency, seconds * 1e-9, "host memory (mpi)")

    def _through_host(self, network: Link, constants: Constants) -> Link:
        """The network as Gloo's one rank a node sees it: with several allreduces in flight (the paper, section 4.2), the slower
        of the host's memory and the network counts."""
        host = Link("host memory (gloo)", constants.host_us * 1e-6, constants.gloo_gbyte * 1e9)
        return host if host.bandwidth <= network.bandwidth else replace(network, latency=host.latency)
