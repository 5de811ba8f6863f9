"""The examination from inside: ranks that a launcher started tell each other their facts, and rank 0 judges them."""

import os
import socket
import time
from contextlib import nullcontext
from dataclasses import replace

from lbsgd.doctor import clock, meeting, storage
from lbsgd.doctor.examination import horovod_frameworks, judge, new_question
from lbsgd.doctor.facts import collect
from lbsgd.doctor.finding import Finding
from lbsgd.doctor.rank import time_limit, try_out
from lbsgd.doctor.request import Request
from lbsgd.errors import LbsgdError
from lbsgd.launch.hosts import Allocation
from lbsgd.ranks.agreement import FailedElsewhere
from lbsgd.ranks.world import World

BARRIER_SECONDS = 0.1
"""The ranks leave a barrier within this time of each other, or the network has other problems."""


def allocation_of(world: World) -> Allocation:
    """The hosts and ranks that the launcher chose. Collective."""
    slots: dict[str, int] = {}
    for host in world.gather(socket.gethostname()):
        slots[host] = slots.get(host, 0) + 1
    return Allocation(slots, world.launcher, "ranks")


def examine(world: World, request: Request) -> list[Finding]:
    """All findings, on every rank. Collective; the process ends when a stage takes longer than the time limit."""
    with time_limit(request.timeout, "telling facts"):
        facts = gather_facts(world, request)
    findings = judge(facts, request) if world.is_first else []
    findings += clock.judge(clock_offsets(world))
    findings.append(meeting.judge_world(_met(world), request))
    first = world.broadcast(horovod_frameworks(facts, request)[:1] if world.is_first else None)
    for framework in (None, *first):
        with time_limit(request.timeout, "a sum over all ranks"):
            findings.append(meeting.judge_sum(_trial(world, framework), request))
    return world.broadcast(findings)


def _met(world: World) -> meeting.Trial:
    return meeting.Trial("MPI", [{"event": "met", "size": world.size}], 0, "")


def _trial(world: World, framework: str | None) -> meeting.Trial:
    """A sum of all ranks; what it came to is known to rank 0, why it failed to all. Collective."""
    events: list[dict] = []
    error = None
    try:
        try_out(world, framework, lambda **event: events.append(event))
    except LbsgdError as failure:
        error = None if isinstance(failure, FailedElsewhere) else str(failure)
    errors = [text for text in world.gather(error) if text]
    return meeting.Trial(meeting.way(framework), events, 1 if errors else 0, "\n".join(errors))


def gather_facts(world: World, request: Request) -> dict[str, dict]:
    """Sections by host, on every rank; each host's first rank tells them. Collective."""
    question = world.broadcast(new_question(request, None))
    peers = tuple(host for host in world.hosts if host != socket.gethostname())
    with storage.marked(question.runs, question.mark) if world.is_first else nullcontext():
        world.barrier()
        own = dict(collect(replace(question, peers=peers))) if world.local_rank == 0 else None
        everyone = world.gather((socket.gethostname(), own, os.sched_getaffinity(0)))
    facts = {host: sections for host, sections, _ in everyone if sections}
    for host, sections in facts.items():  # a launcher may have bound each rank to cores of its own
        sections["machine"]["cores"] = sorted(set.union(*(cores for name, _, cores in everyone if name == host)))
    return facts


def clock_offsets(world: World) -> dict[str, clock.Offset]:
    """Bounds of how far each host's clock is ahead of rank 0's, read as all leave a barrier. Collective."""
    world.barrier()
    times = world.gather((socket.gethostname(), time.time()))
    _, reference = times[0]
    return {host: (seconds - reference - BARRIER_SECONDS, seconds - reference + BARRIER_SECONDS) for host, seconds in times}
