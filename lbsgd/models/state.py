"""The state of a replica as numpy arrays, under torchvision's names and in its layout: what checkpoints hold."""

from dataclasses import dataclass

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class State:
    """Everything that a run needs to go on.

    model: the state dict (parameters, batch norm buffers). velocity: momentum's u of eq. 9 by parameter name.
    loss_scale: scalars of fp16's dynamic loss scaling; empty in other precisions.
    """

    model: Arrays
    velocity: Arrays
    loss_scale: dict[str, float]

    @property
    def not_finite(self) -> str:
        """The name of the first array with a value that is not a finite number; "" when there is none."""
        arrays = [*self.model.items(), *((f"the velocity of {name}", array) for name, array in self.velocity.items())]
        return next((name for name, array in arrays if not np.isfinite(array).all()), "")
