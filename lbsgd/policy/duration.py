"""Lengths of training that carry their unit: "5ep" is five epochs, "300it" three hundred iterations.

A duration becomes iterations in one place only, `Duration.iterations`.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

PATTERN = re.compile(r"(?P<amount>[0-9]+(\.[0-9]+)?)(?P<unit>ep|it)")


@dataclass(frozen=True)
class Duration:
    """A number of epochs ("ep", fractions allowed) or of iterations ("it", whole), in exact decimals."""

    amount: Decimal
    unit: Literal["ep", "it"]

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read "5ep", "0.5ep" or "300it".

        Raises ValueError for any other text.
        """
        match = PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} should be a number with its unit, such as '5ep', '0.5ep' or '300it'")
        amount = Decimal(match["amount"])
        if match["unit"] == "it" and amount % 1:
            raise ValueError(f"{text!r} should be a whole number of iterations")
        return cls(amount, "ep" if match["unit"] == "ep" else "it")

    def iterations(self, iterations_per_epoch: int) -> int:
        """This duration in iterations, the nearest whole number."""
        return round(self.amount * (iterations_per_epoch if self.unit == "ep" else 1))

    def __str__(self) -> str:
        return f"{self.amount}{self.unit}"
