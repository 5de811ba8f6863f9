"""The examination from outside: ask the hosts, judge what they tell, then start ranks on them."""

import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lbsgd.doctor import clock, dataset, gather, machine, meeting, mpi, network, software, storage
from lbsgd.doctor.finding import Finding, ok, problem
from lbsgd.doctor.request import Question, Request
from lbsgd.errors import EnvironmentNotReady
from lbsgd.launch.horovod.installed import FRAMEWORKS
from lbsgd.launch.hosts import require

Judge = Callable[[dict[str, Any], Request], Iterator[Finding]]

EVERY_HOST: dict[str, Judge] = {"software": software.judge, "mpi": mpi.judge, "network": network.judge}
"""Judges by the section of the facts that they take; of all hosts, also of one that only starts the ranks."""

HOSTS_WITH_RANKS: dict[str, Judge] = {"machine": machine.judge, "data": dataset.judge, "storage": storage.judge}

IN_THE_WAY = ("reach", "lbsgd")
"""No ranks are started where these found a problem: their error would be the same, told less clearly."""


def examine(request: Request) -> list[Finding]:
    """All findings, in the order in which they are best put right."""
    question = new_question(request, shutil.which("mpirun"))
    with storage.marked(question.runs, question.mark):
        answers = gather.ask(_hosts(request), question, request.timeout)
    findings = [judge_slots(request), *gather.judge(answers, request.timeout)]
    facts = {answer.host: answer.sections for answer in answers}
    findings += judge(facts, request)
    findings += clock.judge({answer.host: answer.offset for answer in answers if answer.offset})
    return findings + _start_ranks(facts, request, findings)


def new_question(request: Request, mpirun: str | None) -> Question:
    """What to ask the hosts."""
    return Question(
        folder=Path.cwd(),
        runs=request.runs.absolute(),
        mark=f".lbsgd-doctor-{secrets.token_hex(8)}",
        mpirun=mpirun,
        peers=(),
        data=request.data,
    )


def _hosts(request: Request) -> list[str]:
    """The hosts with ranks, and the one here when it has none: mpirun runs on it."""
    hosts = list(request.ranks)
    return hosts if any(map(gather.is_here, hosts)) else [*hosts, socket.gethostname()]


def judge_slots(request: Request) -> Finding:
    """Whether the ranks fit."""
    allocation = request.allocation
    try:
        if not request.oversubscribe:
            require(allocation, request.np)
    except EnvironmentNotReady as error:
        what, _, advice = str(error).partition("; ")
        return problem("slots", None, what, why="ranks would share GPUs or cores", advice=advice)
    return ok("slots", f"{request.np} ranks; {allocation.source} has {allocation.total} {allocation.of}")


def judge(facts: dict[str, dict], request: Request) -> list[Finding]:
    """What the facts of all hosts come to. facts: sections by host; those that a host did not tell are missing."""
    findings: list[Finding] = []
    for judges, hosts in ((EVERY_HOST, facts), (HOSTS_WITH_RANKS, request.ranks)):
        for section, judge_section in judges.items():
            told = {host: facts[host][section] for host in hosts if section in facts[host]}
            if told:
                findings += judge_section(told, request)
    return findings


def _start_ranks(facts: dict[str, dict], request: Request, before: list[Finding]) -> list[Finding]:
    blocking = [finding.check for finding in before if finding.status == "problem" and finding.check in IN_THE_WAY]
    if blocking:
        return meeting.not_tried(f"no ranks started: first fix what {blocking[0]} reports")
    try:
        trial = meeting.start(request, None)
    except EnvironmentNotReady as error:
        return meeting.not_tried(str(error))
    world = meeting.judge_world(trial, request)
    if world.status != "ok":
        return [world]
    findings = [world, meeting.judge_sum(trial, request)]
    gpus = sum(sections.get("machine", {}).get("gpus", 0) for sections in facts.values())
    for framework in horovod_frameworks(facts, request) if findings[-1].status == "ok" else ():
        trial = meeting.start(request, framework)
        findings += [meeting.judge_sum(trial, request), *meeting.judge_device(trial, gpus)]
    return findings


def horovod_frameworks(facts: dict[str, dict], request: Request) -> list[str]:
    """The frameworks that Horovod can be tried with: wanted, and built for on every host with ranks."""
    horovods = [facts[host]["software"]["horovod"] for host in request.ranks]
    built_for = [set(horovod["built_for"]) if horovod else set() for horovod in horovods]
    common = set.intersection(*built_for)
    return [name for name in FRAMEWORKS if name in common and name in (request.frameworks or common)]


def is_ready(findings: list[Finding]) -> bool:
    return all(finding.status != "problem" for finding in findings)
