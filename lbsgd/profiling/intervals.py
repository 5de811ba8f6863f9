"""Arithmetic of intervals (start, end), and of nested spans."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

Interval = tuple[float, float]


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """What the intervals cover, as disjoint ones in order."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif end > start:
            merged.append((start, end))
    return merged


def length(disjoint: Iterable[Interval]) -> float:
    """The sum of the lengths."""
    return sum(end - start for start, end in disjoint)


def clip(intervals: Iterable[Interval], window: Interval) -> list[Interval]:
    """The parts inside of a window."""
    inside = ((max(start, window[0]), min(end, window[1])) for start, end in intervals)
    return [(start, end) for start, end in inside if end > start]


def minus(first: Sequence[Interval], second: Sequence[Interval]) -> list[Interval]:
    """What the first cover and the second do not. Both disjoint and in order, as `union` makes them."""
    left: list[Interval] = []
    for start, end in first:
        for other_start, other_end in second:
            if other_end <= start or other_start >= end:
                continue
            if other_start > start:
                left.append((start, other_start))
            start = max(start, other_end)
        if start < end:
            left.append((start, end))
    return left


def self_times(spans: Iterable[tuple[str, float, float]]) -> dict[str, float]:
    """How long each name's spans took without the spans inside of them. spans: (name, start, end) of one thread."""
    times: defaultdict[str, float] = defaultdict(float)
    open_spans: list[tuple[str, float]] = []
    for name, start, end in sorted(spans, key=lambda span: (span[1], -span[2])):
        while open_spans and open_spans[-1][1] <= start:
            open_spans.pop()
        if open_spans:
            end = min(end, open_spans[-1][1])
            times[open_spans[-1][0]] -= end - start
        times[name] += end - start
        open_spans.append((name, end))
    return times
