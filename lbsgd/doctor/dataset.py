"""Whether all hosts see the data set, and the same one."""

from collections.abc import Iterator
from typing import Any

from lbsgd.data import open_dataset
from lbsgd.doctor.finding import Finding, ok, problem, skipped
from lbsgd.doctor.request import Question, Request
from lbsgd.errors import LbsgdError


def look(question: Question) -> dict[str, Any]:
    """Numbers and digests of the listing, from the index where there is one; no image is read."""
    if question.data is None:
        return {}
    try:
        dataset = open_dataset(question.data)
    except LbsgdError as error:
        return {"error": str(error)}
    sources = {"train": dataset.train, "validation": dataset.validation}
    return {name: {"samples": len(source), "digest": source.digest} for name, source in sources.items()}


def judge(facts: dict[str, dict], request: Request) -> Iterator[Finding]:
    """Whether the data set opens on every host, with the listing of the first that has one."""
    if request.data is None:
        yield skipped("data", "no --data given")
        return
    sound = {host: fact for host, fact in facts.items() if "error" not in fact}
    for host, fact in facts.items():
        if host not in sound:
            yield _unreadable(host, fact["error"])
    if not sound:
        return
    first = next(iter(sound))
    differing = [host for host, fact in sound.items() if fact != sound[first]]
    yield from (_other(first, sound[first], host, sound[host]) for host in differing)
    if len(sound) == len(facts) and not differing:
        yield ok("data", f"{request.data}: {_count(sound[first])} images{_everywhere(facts)}")


def _unreadable(host: str, error: str) -> Finding:
    what, _, advice = error.partition("; ")
    return problem(
        "data", host, what, why="every rank reads its own part of every batch", advice=advice or "mount or copy the data there"
    )


def _other(first: str, reference: dict, host: str, fact: dict) -> Finding:
    names = [name for name in reference if fact[name] != reference[name]]
    return problem(
        "data",
        host,
        f"another listing of {' and '.join(names)}: {_count(fact)} images, {_count(reference)} on {first}",
        why="sample numbers would mean other images, so some are trained on twice and others never; the run refuses to start",
        advice=f"copy the data again, or compare `lbsgd data info` on {first} and {host}",
    )


def _count(fact: dict) -> str:
    return " + ".join(f"{split['samples']:,}" for split in fact.values())


def _everywhere(facts: dict) -> str:
    return f", the same listing on {len(facts)} hosts" if len(facts) > 1 else ""
