"""What a check came to: one finding when all is well, one for each host where it is not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem", "skipped"]

FEW = 4
"""So many hosts are told one by one."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    host: where it was found; None when it is of all hosts together. found: what was seen. why: what follows from it.
    advice: what to do. The last two are empty unless it is a warning or a problem.
    """

    check: str
    host: str | None
    status: Status
    found: str
    why: str = ""
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, None, "ok", found)


def skipped(check: str, found: str) -> Finding:
    """Nothing to check, or no way to."""
    return Finding(check, None, "skipped", found)


def warning(check: str, host: str | None, found: str, *, why: str, advice: str) -> Finding:
    """A job runs, but not as well as it could, or not always."""
    return Finding(check, host, "warning", found, why, advice)


def problem(check: str, host: str | None, found: str, *, why: str, advice: str) -> Finding:
    """A job fails, hangs or computes something else."""
    return Finding(check, host, "problem", found, why, advice)


def told(values: Mapping[str, object]) -> str:
    """Values by host in words: "4.1.8" when they are one, else "4.1.8 on node1 and node2, 5.0.3 on node3"."""
    hosts_of: dict[str, list[str]] = {}
    for host, value in values.items():
        hosts_of.setdefault(str(value), []).append(host)
    if len(hosts_of) == 1:
        return next(iter(hosts_of))
    return ", ".join(f"{value} on {names(hosts)}" for value, hosts in hosts_of.items())


def names(hosts: list[str]) -> str:
    """Names of hosts as a list in a sentence; of many only the first few and the number of the others."""
    if len(hosts) > FEW:
        return f"{', '.join(hosts[: FEW - 1])} and {len(hosts) - FEW + 1} more"
    return " and ".join(filter(None, (", ".join(hosts[:-1]), hosts[-1])))


def merged(findings: list[Finding]) -> list[tuple[Finding, list[str]]]:
    """Findings that say the same of several hosts as one, each with its hosts; in the order of the first."""
    hosts_of: dict[tuple, list[str]] = {}
    first: dict[tuple, Finding] = {}
    for finding in findings:
        said = (finding.check, finding.status, finding.found, finding.why, finding.advice)
        first.setdefault(said, finding)
        hosts_of.setdefault(said, []).extend(filter(None, [finding.host]))
    return [(first[said], hosts) for said, hosts in hosts_of.items()]
