"""Where a mean step goes: the same parts in run.json, in bench.json and in the report."""

from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, kw_only=True)
class StepParts:
    """Parts that sum to a step, all in milliseconds or all as shares of it.

    compute: a worker's own arithmetic. waiting: for slower workers. communication: what backward did not hide. data: waiting
    for images. other: the loop's own work. All are means over the workers.

    In records of before there were measured steps, waiting is part of communication: there it is None.
    """

    compute: float
    waiting: float | None = None
    communication: float
    data: float
    other: float

    @property
    def measured(self) -> dict[str, float]:
        """Those that are known, by the name that a reader sees, in the order in which they are shown."""
        names = {"communication": "communication and waiting"} if self.waiting is None else {}
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
