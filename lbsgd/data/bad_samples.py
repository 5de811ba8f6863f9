"""What to do about images that cannot be read: `--bad-samples fail`, or `replace[:N]`.

A substitute is a pure function of (seed, sample) and of which images are readable, so it depends neither on the rank nor on
when the damage was noticed. A validation image has no substitute: it is left out of the count.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lbsgd.data.source import UnreadableSample
from lbsgd.errors import DataError, UsageError
from lbsgd.policy.philox import Purpose, words

if TYPE_CHECKING:
    from lbsgd.ranks.world import World

MOST_SUBSTITUTES = 100
"""Tries for one sample. When all of them fail it is not the images: the disk is gone."""


class TooManyBadSamples(DataError):
    """More images are unreadable than `--bad-samples replace:N` allows."""

    collective = True


@dataclass(frozen=True)
class BadSamplePolicy:
    """limit: how many different samples may be bad, over all ranks; None: any number. Without `replace` the first one fails."""

    replace: bool
    limit: int | None = None

    @classmethod
    def parse(cls, text: str) -> "BadSamplePolicy":
        """From "fail", "replace" or "replace:N".

        Raises UsageError.
        """
        kind, colon, number = text.partition(":")
        if text == "fail" or (kind == "replace" and (not colon or number.isdecimal())):
            return cls(kind == "replace", int(number) if number else None)
        raise UsageError(f"--bad-samples {text!r}: give fail, replace, or replace:N with N the most that may be replaced")

    def __str__(self) -> str:
        if not self.replace:
            return "fail"
        return "replace" if self.limit is None else f"replace:{self.limit}"


FAIL = BadSamplePolicy(replace=False)


class BadSamples:
    """The unreadable images of one source that this rank knows of. Threads report, the trainer exchanges."""

    def __init__(self, policy: BadSamplePolicy) -> None:
        self.policy = policy
        self.known: dict[int, UnreadableSample] = {}
        self._new: dict[int, UnreadableSample] = {}
        self._lock = threading.Lock()

    def report(self, sample: int, error: UnreadableSample) -> None:
        """Take note of a bad sample, or raise its error where none is allowed."""
        if not self.policy.replace:
            raise error
        with self._lock:
            if sample not in self.known:
                self.known[sample] = self._new[sample] = error

    @property
    def new_count(self) -> int:
        """How many `take_new` would give."""
        return len(self._new)

    def take_new(self) -> dict[int, tuple[str, str]]:
        """What was reported since the last call: name and reason by sample."""
        with self._lock:
            new, self._new = self._new, {}
        return {sample: (error.name, error.reason) for sample, error in new.items()}

    def learn(self, found: dict[int, tuple[str, str]]) -> None:
        """Take over what other ranks found.

        Raises TooManyBadSamples when the limit is passed.
        """
        with self._lock:
            for sample, (name, reason) in found.items():
                self.known.setdefault(sample, UnreadableSample(name, reason))
        limit = self.policy.limit
        if limit is not None and len(self.known) > limit:
            names = ", ".join(repr(error.name) for error in list(self.known.values())[:3])
            raise TooManyBadSamples(
                f"{len(self.known)} images cannot be read, --bad-samples {self.policy} allows {limit}; among them {names}. "
                "`lbsgd data verify` finds them all"
            )


def exchange(world: "World", bad_samples: BadSamples) -> dict[int, tuple[str, str]]:
    """Tell all ranks what each found since the last exchange: name and reason by sample. Collective.

    Raises TooManyBadSamples on all ranks.
    """
    found: dict[int, tuple[str, str]] = {}
    for new in world.gather(bad_samples.take_new()):
        found |= new
    bad_samples.learn(found)
    return found


def substitutes(sample: int, samples: int, seed: int) -> Iterator[int]:
    """The samples to take in place of a bad one, in this order."""
    yield from (words(MOST_SUBSTITUTES, Purpose.SUBSTITUTE, seed=seed, sample=sample) % samples).tolist()
