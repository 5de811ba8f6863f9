"""What `lbsgd bench allreduce` times: a library that sums arrays over the ranks."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np


class Transport(ABC):
    """A library that sums arrays over the ranks. `in_place`: whether it can put the sum where this rank's array was."""

    name: str
    in_place: bool

    @abstractmethod
    def start(self) -> None:
        """Do what must happen once before the first sum. Collective."""

    @abstractmethod
    def collective(self, values: np.ndarray, in_place: bool) -> Callable[[], Any]:
        """A collective that sums the ranks' arrays, which lie on the device already, and returns when the sum is there.

        It may be called again and again; in place it adds up what it left behind.
        """

    @abstractmethod
    def to_array(self, total: Any) -> np.ndarray:
        """What the collective returned, on the host."""

    @abstractmethod
    def environment(self) -> dict[str, Any]:
        """The device that holds the arrays, and what else tells this transport apart."""
