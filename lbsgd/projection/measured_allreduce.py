"""An allreduce as `lbsgd bench allreduce` measured it on this cluster: latency and time per byte for each number of ranks.

Numbers of ranks that were not measured take the nearest measured one, scaled as a ring scales.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lbsgd.errors import UsageError
from lbsgd.projection.cluster import Collective
from lbsgd.projection.collective import Cost

LIMIT = "allreduce as measured"


def read_measured(paths: Iterable[Path]) -> dict[int, Cost]:
    """The cost for each number of ranks, from one file or more.

    A file is JSON: {"schema": 1, "rows": [{"ranks": 2, "bytes": 1048576, "seconds": 0.001, ..}, ..]}. Where rows say what they
    went through, Horovod's count: that is what training uses. Raises UsageError for anything else.
    """
    rows = [row for path in paths for row in _rows(path)]
    chosen = [row for row in rows if row.get("through", "horovod") == "horovod"] or rows
    ranks = sorted({row["ranks"] for row in chosen if row["ranks"] > 1})
    if not ranks:
        raise UsageError("--calibrate: no row has two ranks or more; measure with lbsgd bench allreduce on at least two")
    return {count: fit([(row["bytes"], row["seconds"]) for row in chosen if row["ranks"] == count]) for count in ranks}


def fit(measurements: list[tuple[float, float]]) -> Cost:
    """The line through (bytes, seconds) with the least squared relative error; neither of its numbers is negative.

    Raises UsageError without two different sizes.
    """
    if len({size for size, _ in measurements}) < 2:
        raise UsageError("--calibrate: one size cannot tell latency from bandwidth; measure at least two (--begin, --end)")
    # Weighted least squares in closed form: weight 1 / seconds**2.
    weights = [1 / seconds**2 for _, seconds in measurements]
    total = sum(weights)
    mean_size = sum(w * size for w, (size, _) in zip(weights, measurements, strict=True)) / total
    mean_seconds = sum(w * seconds for w, (_, seconds) in zip(weights, measurements, strict=True)) / total
    products = sum(
        w * (size - mean_size) * (seconds - mean_seconds) for w, (size, seconds) in zip(weights, measurements, strict=True)
    )
    squares = sum(w * (size - mean_size) ** 2 for w, (size, _) in zip(weights, measurements, strict=True))
    per_byte = max(0.0, products / squares)
    return Cost(max(0.0, mean_seconds - per_byte * mean_size), per_byte, LIMIT)


def measured_collective(measured: Mapping[int, Cost], ranks: int) -> Collective:
    """The allreduce of `ranks` ranks, from the nearest number that was measured (by ratio)."""
    nearest = min(measured, key=lambda count: abs(math.log(count / ranks)))
    cost = measured[nearest]
    messages, bytes_moved = ((ranks - 1) / (nearest - 1), (1 - 1 / ranks) / (1 - 1 / nearest))
    scaled = (Cost(cost.latency * messages, cost.per_byte * bytes_moved, LIMIT),)
    return Collective(scaled, scaled)


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text())
        rows = [row for row in content["rows"] if row["seconds"] > 0 and row["bytes"] > 0 and row["ranks"] > 0]
        if content["schema"] == 1 and rows:
            return rows
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--calibrate {path}: not a result of lbsgd bench allreduce --json ({_reason(error)})") from error
    raise UsageError(f"--calibrate {path}: no rows of schema 1; write it with lbsgd bench allreduce --json")


def _reason(error: Exception) -> str:
    return f"no key {error}" if isinstance(error, KeyError) else getattr(error, "strerror", None) or str(error)
