"""Checks that arrays fit a network before any of them is taken over."""

from collections.abc import Mapping

from lbsgd.errors import CheckpointError
from lbsgd.models.state import Arrays


def require_fit(what: str, given: Arrays, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError unless `given` has exactly the names and shapes of `wanted`."""
    missing, left_over = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or left_over:
        raise CheckpointError(
            f"the checkpoint's {what} is of another model: {len(missing)} names missing{_first(missing)}, "
            f"{len(left_over)} not known here{_first(left_over)}"
        )
    for name, shape in wanted.items():
        if tuple(given[name].shape) != tuple(shape):
            raise CheckpointError(
                f"the checkpoint's {what} is of another model: {name} has shape {list(given[name].shape)}, here {list(shape)}"
            )


def _first(names: list[str]) -> str:
    return f" (first {names[0]!r})" if names else ""
