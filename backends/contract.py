"""What a framework must do for lbsgd. Everything else exists once and knows no framework.

A backend holds one replica on one rank: a network, its optimiser state and its connection to the other replicas through
Horovod. It takes steps with the hyper-parameters it is given and decides nothing. Arrays cross the edge as numpy, under
torchvision's names and in its layout (lbsgd.models.network).
"""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from lbsgd.backends.batch_norm import workers_together
from lbsgd.backends.phases import PhaseClock
from lbsgd.errors import UsageError
from lbsgd.models import require_framework
from lbsgd.models.state import State
from lbsgd.policy.recipe import Recipe
from lbsgd.ranks.world import World


@dataclass(frozen=True, kw_only=True)
class ReplicaSpec:
    """What a backend is built for. `accumulate`: virtual workers on this rank, n = recipe.batch_per_worker images each.

    together: how many of them go through the network in one pass, a divisor of `accumulate`; None: as many as are fast. Each
    has its own batch norm statistics all the same, and losses are equal to rounding.

    channels_last: PyTorch's memory layout of images and weights; TensorFlow has no other.
    compile: "auto", "on" or "off": whether PyTorch compiles the network's parts; "auto" does on a GPU.
    TensorFlow always runs a graph.
    deterministic: whether equal steps give equal bits on a GPU too, at the cost of speed.
    """

    recipe: Recipe
    classes: int
    world: World
    accumulate: int = 1
    together: int | None = None
    channels_last: bool = True
    compile: str = "auto"
    deterministic: bool = False

    def workers_together(self, device: Literal["cpu", "gpu"]) -> int:
        """`together`, or what is fast on the device."""
        pixels = self.recipe.batch_per_worker * self.recipe.images.size**2
        return self.together or workers_together(self.accumulate, pixels, device)

    @property
    def threads(self) -> int:
        """Threads for this rank's arithmetic on the CPU: its share of the host's cores, or OMP_NUM_THREADS."""
        return threads_of(self.world)


def threads_of(world: World) -> int:
    """As ReplicaSpec.threads."""
    if os.environ.get("OMP_NUM_THREADS", "").isdecimal():
        return int(os.environ["OMP_NUM_THREADS"])
    return max(1, len(os.sched_getaffinity(0)) // world.local_size)


class Profiler(ABC):
    """A framework's profiler, for a few steps of one rank."""

    @abstractmethod
    def start(self, folder: Path, timeline: Path | None) -> None:
        """Begin. folder: for temporary files. timeline: where Horovod shall write its own, None where it has nothing to do."""

    @abstractmethod
    def stop(self) -> list[dict[str, Any]]:
        """End, and give the events in Chrome's trace format: `ts` in microseconds since 1970, `cat` "cpu_op" for operations
        that compute on the CPU and "kernel" for a GPU's."""


class Backend(ABC):
    """One replica of the model. Methods marked *collective* must be called by all ranks alike."""

    framework: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    asynchronous: bool
    """Whether the device works behind the host, so that a loss is best read one step later."""

    def __init__(self, spec: ReplicaSpec) -> None:
        """Collective. A recipe's precision "auto" becomes one that all ranks are fast in: `self.spec.recipe` has it.

        Raises UsageError for a model of another framework, and for a precision that this one does not have.
        """
        require_framework(spec.recipe.model, self.framework)
        if spec.recipe.precision == "auto":
            fastest = set(spec.world.gather(self.fastest_precision(spec)))
            precision = fastest.pop() if len(fastest) == 1 else "fp32"
            spec = replace(spec, recipe=spec.recipe.model_copy(update={"precision": precision}))
        self.spec = spec
        if spec.recipe.precision not in self.precisions:
            raise UsageError(
                f"the {self.framework} backend has no precision {spec.recipe.precision!r}; it has {', '.join(self.precisions)}"
            )

    @staticmethod
    @abstractmethod
    def fastest_precision(spec: ReplicaSpec) -> str:
        """ "bf16" where this rank's device computes in bfloat16 by hardware and the network can, else "fp32"."""

    @abstractmethod
    def train_step(self, images: np.ndarray, labels: np.ndarray, learning_rate: float, clock: PhaseClock | None = None) -> Any:
        """One update of the replica by the paper's rule. Collective.

        images: uint8 [accumulate * n, size, size, 3]; labels: int64 [accumulate * n]. They may be read until
        the loss of this step has been. Each slice of n is a virtual worker with its own batch norm statistics. The gradient
        is the mean over all kn samples (remark 3), weight decay is added after aggregation (remark 1), the update is eq. 9
        with Nesterov's look-ahead.
        Returns the mean loss of this rank's samples, still on the device: `loss_value` waits for it.
        clock: makes it a measured step, the same update in phases: no gradient is sent before backward has ended and all ranks
        have met, and the weights are updated when all gradients have been averaged. The clock is told their squared norms,
        before and after.
        """

    @abstractmethod
    def loss_value(self, loss: Any) -> float:
        """Wait until the step that returned `loss` is done and give its value."""

    def allocate(self, shape: tuple[int, ...]) -> np.ndarray:
        """An uninitialised uint8 array for a batch of images, in memory that the device copies fast from."""
        return np.empty(shape, np.uint8)

    @abstractmethod
    def evaluate(self, images: np.ndarray, labels: np.ndarray, valid: int) -> tuple[int, float]:
        """Wrong answers (top-1) and the sum of cross-entropies among the first `valid` images, by running statistics.

        images: uint8 [count, size, size, 3]; labels: int64 [count].
        """

    @property
    @abstractmethod
    def gradient_bytes(self) -> int:
        """Of all gradients that a step averages."""

    @abstractmethod
    def average_batch_norm(self) -> None:
        """Replace batch norm's running statistics by their mean over all workers. Collective."""

    @abstractmethod
    def export_state(self) -> State:
        """A copy of this replica's state."""

    @abstractmethod
    def import_state(self, state: State) -> None:
        """Take over a state made by any backend for the same network.

        Raises CheckpointError when a name is missing or left over, or a shape differs.
        """

    @abstractmethod
    def broadcast(self) -> None:
        """Make every replica equal to rank 0's: parameters, velocity, batch norm buffers, loss scale. Collective."""

    @abstractmethod
    def profiler(self) -> Profiler:
        """A profiler of this replica's steps. Horovod's timeline needs HOROVOD_TIMELINE=DYNAMIC before this backend is made."""

    @abstractmethod
    def environment(self) -> dict[str, Any]:
        """Versions and devices for the record: framework, Horovod and its build, GPU names."""
