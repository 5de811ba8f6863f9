"""Where a mean step goes: the same parts in run.json, in bench.json and in the report."""

from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, kw_only=True)
class StepParts:
    """Parts that sum to a step, all in milliseconds or all as shares of it.

    compute: the median rank's step without communication. straggler: what the slowest rank takes longer. communication: what a
    step with communication takes longer than the slowest rank without, so what backward did not hide. data: waiting for images.
    other: the loop's own work. remainder: what these, each measured by itself, do not add up to.

    A training run does not measure straggler and remainder apart from communication: they are None.
    """

    compute: float
    straggler: float | None = None
    communication: float
    data: float
    other: float
    remainder: float | None = None

    @property
    def measured(self) -> dict[str, float]:
        """Those that are known, by the name that a reader sees, in the order in which they are shown."""
        names = {"communication": "communication and waiting"} if self.straggler is None else {}
        return {names.get(name, name): value for name, value in asdict(self).items() if value is not None}

    @property
    def whole(self) -> float:
        """The step."""
        return sum(self.measured.values())

    def scaled(self, factor: float) -> "StepParts":
        """Each part times `factor`."""
        return StepParts(**{name: value and value * factor for name, value in asdict(self).items()})


PARTS = tuple(field.name for field in fields(StepParts))
"""In the order in which they are shown."""
