"""What an allreduce costs, by algorithm: seconds = latency + bytes * per_byte.

Bandwidths are bytes per second in one direction; S is the size of what is summed. Formulas of full-duplex links, as usual.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """A way between two ranks or nodes. latency: seconds per message; bandwidth: bytes per second; name: as printed."""

    name: str
    latency: float
    bandwidth: float


@dataclass(frozen=True)
class Cost:
    """Seconds of an allreduce of any size: `latency` + size * `per_byte`. limit: the link that sets `per_byte`."""

    latency: float
    per_byte: float
    limit: str

    def seconds(self, size: float) -> float:
        return self.latency + size * self.per_byte


def ring(local_ranks: int, nodes: int, bus: Link, network: Link) -> Cost:
    """One ring through all ranks: 2 (p - 1) messages and 2 (p - 1) / p S over every link, as fast as the slowest link.

    Only one hop of the ring enters each node, so the network carries those bytes once a node. Latencies as in NCCL's own
    model (src/graph/tuning.cc): of the 2 (p - 1) steps, 2 (nodes - 1) cross the network.
    """
    ranks = local_ranks * nodes
    crossings = 2 * (nodes - 1)
    latency = (2 * (ranks - 1) - crossings) * bus.latency + crossings * network.latency
    slowest = _slowest(bus, network) if nodes > 1 else bus
    return Cost(latency, 2 * (ranks - 1) / ranks / slowest.bandwidth, slowest.name)


def tree(local_ranks: int, nodes: int, bus: Link, network: Link) -> Cost:
    """NCCL's pipelined double tree over the nodes, a chain inside each: 2 S over every link, latency by the logarithm.

    NCCL, src/graph/tuning.cc: latency 2 ((ranks / nodes - 1) local + log2(nodes) network), bandwidth half the bus's, of which
    its protocol reaches 92 %.
    """
    latency = 2 * ((local_ranks - 1) * bus.latency + math.log2(nodes) * network.latency)
    slowest = _slowest(bus, network)
    return Cost(latency, 2 / 0.92 / slowest.bandwidth, slowest.name)


def halving_doubling(ranks: int, link: Link) -> Cost:
    """Recursive halving, then doubling (Rabenseifner): 2 log2(p) messages and 2 (p - 1) / p S.

    Thakur, Rabenseifner and Gropp 2005, and the paper's section 4. Other p than powers of two cost one more step each way,
    as with the paper's binary blocks.
    """
    return Cost(2 * math.ceil(math.log2(ranks)) * link.latency, 2 * (ranks - 1) / ranks / link.bandwidth, link.name)


def three_phase(local_ranks: int, nodes: int, bus: Link, network: Link) -> Cost:
    """The paper's (section 4.1): sum within each node, halving and doubling between nodes, broadcast within each node."""
    local = Cost(2 * (local_ranks - 1) * bus.latency, 2 * (local_ranks - 1) / local_ranks / bus.bandwidth, bus.name)
    return in_turn([local, halving_doubling(nodes, network)])


def in_turn(phases: Sequence[Cost]) -> Cost:
    """One phase after the other; the one that takes longest per byte is the limit."""
    limit = max(phases, key=lambda phase: phase.per_byte).limit
    return Cost(sum(phase.latency for phase in phases), sum(phase.per_byte for phase in phases), limit)


def _slowest(*links: Link) -> Link:
    return min(links, key=lambda link: link.bandwidth)
