"""Whether the hosts' clocks agree. A host's offset is known as an interval: its clock was read between two of our times."""

from collections.abc import Iterator

from lbsgd.doctor.finding import Finding, ok, problem, skipped, warning

WARN_SECONDS = 1.0
PROBLEM_SECONDS = 60.0

Offset = tuple[float, float]
"""Bounds, in seconds, of how far a clock is ahead of the one here."""


def judge(offsets: dict[str, Offset]) -> Iterator[Finding]:
    """Whether any clock is off for sure; what may be the delay of the answer does not count."""
    if len(offsets) < 2:
        yield skipped("clock", "one host")
        return
    off = {host: skew(offset) for host, offset in offsets.items()}
    wrong = {host: seconds for host, seconds in off.items() if abs(seconds) > WARN_SECONDS}
    for host, seconds in wrong.items():
        yield (problem if abs(seconds) > PROBLEM_SECONDS else warning)(
            "clock",
            host,
            f"its clock is {abs(seconds):,.0f} s {'ahead' if seconds > 0 else 'behind'}",
            why="of several ranks that fail, the earliest is reported as the cause; files from the future look unfinished, and "
            "batch systems refuse credentials",
            advice=f"synchronise it: chronyd or systemd-timesyncd on {host}",
        )
    if not wrong:
        yield ok("clock", f"within {WARN_SECONDS:.0f} s on {len(offsets)} hosts")


def skew(offset: Offset) -> float:
    """The part of an offset that is certain: 0 when the interval holds 0, else its bound nearer to 0."""
    low, high = offset
    return low if low > 0 else high if high < 0 else 0.0
