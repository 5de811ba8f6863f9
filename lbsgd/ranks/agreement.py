"""All ranks must be about to do the same thing: the check before the first step.

Horovod averages whatever it is given. Ranks with another recipe, version or data listing train something nobody asked for
and the run "succeeds".
"""

import socket
from collections.abc import Callable
from typing import Any, TypeVar

from lbsgd.errors import EnvironmentNotReady, LbsgdError
from lbsgd.ranks.world import World
from lbsgd.record.run_record import flatten

Result = TypeVar("Result")

ABSENT = "(absent)"


class FailedElsewhere(LbsgdError):
    """This rank leaves because another one failed; the first of those that failed reports it."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another rank failed")
        self.exit_code = exit_code


def together(world: World, action: Callable[[], Result]) -> Result:
    """Do `action` on all ranks; when it fails on any, fail on all, and let one speak. Collective.

    Without it, a rank whose folder is missing leaves and the others wait in MPI for ever.
    """
    error: LbsgdError | None = None
    try:
        result = action()
    except LbsgdError as failure:
        error = failure
    codes = world.gather(error.exit_code if error else None)
    failed = [(rank, code) for rank, code in enumerate(codes) if code is not None]
    if not failed:
        return result
    first, code = failed[0]
    if error is None or first != world.rank:
        raise FailedElsewhere(code)
    if len(failed) < world.size:
        raise type(error)(f"rank {world.rank} on {socket.gethostname()}: {error}")
    raise error


def in_turns(world: World, action: Callable[[], Result]) -> Result:
    """Do `action` on rank 0, then on the first rank of every host, then on the others: what one leaves behind, such as the
    index of a large data set, the next ones find. Fails as `together` does. Collective.
    """
    turn = 0 if world.is_first else 1 if world.local_rank == 0 else 2
    for _ in range(turn):
        together(world, _nothing)
    result = together(world, action)
    for _ in range(turn, 2):
        together(world, _nothing)
    return result


def _nothing() -> None:
    """What a rank does while it is not its turn."""


def require_agreement(world: World, facts: dict[str, Any]) -> None:
    """Refuse to go on unless every rank gives the same facts. Collective.

    facts: names to JSON values; nested ones are compared leaf by leaf.
    Raises EnvironmentNotReady on rank 0, with each difference from it, at most five of them; FailedElsewhere on the others.
    """
    found = differences(world.gather((socket.gethostname(), flatten(facts))))
    if not found:
        return
    if not world.is_first:
        raise FailedElsewhere(EnvironmentNotReady.exit_code)
    more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
    raise EnvironmentNotReady(f"the ranks disagree: {'; '.join(found[:5])}{more}; start all ranks alike")


def differences(everyone: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """In what the ranks' facts differ from rank 0's, in words. everyone: host and flat facts, by rank."""
    host, reference = everyone[0]
    return [
        f"{name} is {here!r} on rank 0 ({host}) but {there!r} on rank {rank} ({other_host})"
        for rank, (other_host, other) in enumerate(everyone)
        for name in sorted(reference.keys() | other.keys())
        if (here := reference.get(name, ABSENT)) != (there := other.get(name, ABSENT))
    ]
