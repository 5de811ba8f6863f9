"""The results of a study's runs, in one JSON file that is small enough to keep beside the code."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from lbsgd.errors import UsageError

SCHEMA = 1
FINAL_EPOCHS = 5
"""The paper reports the median error of the final five epochs (section 5.1)."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Of one run. errors, losses: of each epoch, top-1 error of the validation images and mean training loss; shorter where the
    run diverged. seconds: from start to end. reason: why it has no result."""

    id: str
    settings: dict[str, Any]
    seed: int
    status: Literal["done", "diverged", "failed"]
    errors: tuple[float, ...]
    losses: tuple[float, ...]
    iterations: int
    seconds: float
    reason: str = ""

    @property
    def error(self) -> float:
        """The median over the last epochs; nothing is learnt by a run that diverged: 1."""
        return median(self.errors[-FINAL_EPOCHS:]) if self.status == "done" else 1.0


class Results:
    """A study's file of results; every run is written to it as it ends. data: digest of the images that all runs had."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.runs: dict[str, Result] = {}
        self.data: str | None = None
        self.environment: dict[str, Any] = {}
        if file.exists():
            self._read()

    def _read(self) -> None:
        try:
            content = json.loads(self.file.read_text())
            if content["schema"] != SCHEMA:
                raise ValueError(f"schema {content['schema']}")
            self.data, self.environment = content["data"], content["environment"]
            for one in content["runs"]:
                result = Result(**one | {"errors": tuple(one["errors"]), "losses": tuple(one["losses"])})
                self.runs[result.id] = result
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{self.file} does not hold the results of a study: {error!r}") from error

    def require_data(self, digest: str) -> None:
        """Keep the digest of the data; raise UsageError when earlier runs had other images."""
        if self.data is not None and self.data != digest and self.runs:
            raise UsageError(f"{self.file} holds results on other images than those of --data; give another --results")
        self.data = digest

    def add(self, result: Result) -> None:
        """Keep a result and write the file, whole or not at all."""
        self.runs[result.id] = result
        lines = [json.dumps(asdict(one)) for one in sorted(self.runs.values(), key=lambda one: (one.seed, one.id))]
        data, environment = json.dumps(self.data), json.dumps(self.environment)
        head = f'{{"schema": {SCHEMA}, "data": {data},\n"environment": {environment},\n"runs": [\n'
        text = head + ",\n".join(lines) + "\n]}\n"
        partial = self.file.with_suffix(".partial")
        partial.write_text(text)
        partial.replace(self.file)
