"""Python, the packages that decide what a step computes, the frameworks, and Horovod built for them."""

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lbsgd.doctor.finding import Finding, ok, problem, told
from lbsgd.doctor.request import Request
from lbsgd.launch.horovod.installed import InstalledHorovod, inspect_horovod, installed_frameworks
from lbsgd.launch.horovod.report import static_problems
from lbsgd.record.environment import code_digest, versions


def look() -> dict[str, Any]:
    """What is installed; no framework is imported."""
    horovod = inspect_horovod()
    return {
        "python": platform.python_version(),
        "versions": versions(),
        "code": code_digest(),
        "frameworks": installed_frameworks(),
        "horovod": horovod and {"version": horovod.version, "built_for": horovod.built_for, "build": horovod.build},
    }


def judge(facts: dict[str, dict], request: Request) -> Iterator[Finding]:
    """Python, equal versions, frameworks and Horovod."""
    yield ok("python", told({host: fact["python"] for host, fact in facts.items()}))
    yield from judge_versions(facts)
    yield from judge_frameworks(facts, request)
    yield from judge_horovod(facts, request)


def judge_versions(facts: dict[str, dict]) -> Iterator[Finding]:
    """Whether all hosts have the packages, and lbsgd's files, of the first."""
    first, *others = facts
    differing = {host: list(differences(facts[first], facts[host])) for host in others}
    for host, found in differing.items():
        if found:
            yield problem(
                "versions",
                host,
                f"{', '.join(found[:5])} ({first} has the first of each pair)",
                why="ranks with other code compute other steps, so the run refuses to start",
                advice=f"install the same packages on {host} as on {first}, or use one environment that all hosts see",
            )
    if not any(differing.values()):
        lbsgd = facts[first]["versions"]["lbsgd"]
        same = f", the same packages and code on {len(facts)} hosts" if others else ""
        yield ok("versions", f"lbsgd {lbsgd}{same}")


def differences(one: dict, other: dict) -> Iterator[str]:
    """In what a host's software differs from that of another, "torch 2.13.0 and 2.12.1"."""
    for name in sorted(one["versions"].keys() | other["versions"].keys()):
        here, there = one["versions"].get(name, "missing"), other["versions"].get(name, "missing")
        if here != there:
            yield f"{name} {here} and {there}"
    if one["code"] != other["code"]:
        yield f"lbsgd's source files {one['code'][:8]} and {other['code'][:8]}"


def judge_frameworks(facts: dict[str, dict], request: Request) -> Iterator[Finding]:
    """Whether the frameworks that are wanted, or any, are installed."""
    complete = True
    for host, fact in facts.items():
        absent = [name for name in request.frameworks if name not in fact["frameworks"]]
        if absent or not fact["frameworks"]:
            complete = False
            yield problem(
                "frameworks",
                host,
                f"{' and '.join(absent)} not installed" if absent else "neither torch nor tensorflow is installed",
                why="it is what executes the steps",
                advice=f"pip install 'lbsgd[{(absent or ['torch'])[0]}]' on {host}",
            )
    if complete:
        yield ok("frameworks", told({host: _list(fact["frameworks"]) for host, fact in facts.items()}))


def judge_horovod(facts: dict[str, dict], request: Request) -> Iterator[Finding]:
    """Whether Horovod was built for the frameworks that are there."""
    complete = True
    for host, fact in facts.items():
        wanted = {name: v for name, v in fact["frameworks"].items() if name in (request.frameworks or fact["frameworks"])}
        for sentence in static_problems(_installed(fact["horovod"]), wanted) if wanted else ():
            complete = False
            what, _, advice = sentence.partition("; ")
            yield problem("horovod", host, what, why="ranks could not exchange gradients", advice=advice)
    if complete and all(fact["horovod"] for fact in facts.values()):
        yield ok("horovod", told({host: _describe(fact["horovod"]) for host, fact in facts.items()}))


def _installed(horovod: dict | None) -> InstalledHorovod | None:
    return InstalledHorovod(horovod["version"], Path(), horovod["built_for"], horovod["build"]) if horovod else None


def _describe(horovod: dict) -> str:
    built = f"{horovod['version']} built for {_list(horovod['built_for'])}"
    return f"{built} with {' '.join(horovod['build']['mpi'][:2])}" if horovod["build"] else built


def _list(versions_by_name: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions_by_name.items())
