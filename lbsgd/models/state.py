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
