"""The numpy replica: the paper's equations as they stand. Ranks average by World.sum, so any communicator serves."""

from pathlib import Path
from typing import Any

import numpy as np

from lbsgd.backends.arrays import require_fit
from lbsgd.backends.batch_norm import virtual_momentum
from lbsgd.backends.contract import Backend, Profiler, ReplicaSpec
from lbsgd.backends.phases import PhaseClock
from lbsgd.backends.reference.network import HIDDEN, Network, cross_entropies
from lbsgd.errors import UsageError
from lbsgd.models import library_model
from lbsgd.models.state import Arrays, State


class ReferenceBackend(Backend):
    """One replica in numpy. It computes in float64, whatever "fp32" would allow."""

    framework = "reference"
    precisions = ("fp32",)
    asynchronous = False

    def __init__(self, spec: ReplicaSpec) -> None:
        super().__init__(spec)
        recipe = spec.recipe
        library, name = library_model(recipe.model) or ("", "")
        if library != "reference" or name not in HIDDEN:
            known = " and ".join(f"reference:{name}" for name in HIDDEN)
            raise UsageError(f"the reference backend has no model {recipe.model!r}; it has {known}")
        self.network = Network(name, recipe.images.size**2 * 3, spec.classes, recipe.seed)
        self.velocity: Arrays = {key: np.zeros_like(array) for key, array in self.network.parameters.items()}

    @staticmethod
    def fastest_precision(spec: ReplicaSpec) -> str:
        return "fp32"

    def train_step(
        self, images: np.ndarray, labels: np.ndarray, learning_rate: float, clock: PhaseClock | None = None
    ) -> float:
        if clock:
            clock.staged()
        count, n = self.spec.accumulate, self.spec.recipe.batch_per_worker
        losses, gradients = [], []
        for index in range(count):
            share = slice(index * n, (index + 1) * n)
            targets = self._targets(labels[share])
            momentum = virtual_momentum(index, count)
            loss, gradient = self.network.loss_and_gradient(self._pixels(images[share]), targets, momentum)
            losses.append(loss)
            gradients.append(gradient)
        mean = {name: np.mean([gradient[name] for gradient in gradients], axis=0) for name in gradients[0]}
        if clock:
            clock.computed()
            clock.meet(squared(mean))
        mean = {name: self._average(gradient) for name, gradient in mean.items()}
        if clock:
            clock.averaged()
            clock.counted(squared(mean))
        if clip_norm := self.spec.recipe.optimizer.clip_norm:
            factor = min(1.0, clip_norm / max(np.sqrt(squared(mean)), np.finfo(float).tiny))
            mean = {name: factor * gradient for name, gradient in mean.items()}
        self._update(mean, learning_rate)
        return float(np.mean(losses))

    def _update(self, gradient: Arrays, learning_rate: float) -> None:
        """Eq. 9, u = m u + g and w = w - eta u, with Nesterov's look-ahead; weight decay is added after aggregation."""
        settings = self.spec.recipe.optimizer
        if settings.kind == "lars":
            self._update_by_lars(gradient, learning_rate)
            return
        for name, weight in self.network.parameters.items():
            decay = 0.0 if name.startswith("bn.") else settings.weight_decay
            g = gradient[name] + decay * weight
            u = self.velocity[name] = settings.momentum * self.velocity[name] + g
            weight -= learning_rate * (g + settings.momentum * u if settings.nesterov else u)

    def _update_by_lars(self, gradient: Arrays, learning_rate: float) -> None:
        """v = m v + eta trust (g + lambda w) and w = w - v; trust is 1, and lambda 0, for what is no weight matrix."""
        settings = self.spec.recipe.optimizer
        for name, weight in self.network.parameters.items():
            g, trust = gradient[name], 1.0
            if weight.ndim > 1:
                of_weight, of_gradient = float(np.linalg.norm(weight)), float(np.linalg.norm(g))
                if of_weight > 0 and of_gradient > 0:
                    decayed = of_gradient + settings.weight_decay * of_weight + settings.epsilon
                    trust = settings.trust * of_weight / decayed
                g = g + settings.weight_decay * weight
            self.velocity[name] = settings.momentum * self.velocity[name] + learning_rate * trust * g
            weight -= self.velocity[name]

    def _pixels(self, images: np.ndarray) -> np.ndarray:
        settings = self.spec.recipe.images
        return ((images / 255 - settings.mean) / settings.std).reshape(len(images), -1)

    def _targets(self, labels: np.ndarray) -> np.ndarray:
        smoothing = self.spec.recipe.label_smoothing
        return (1 - smoothing) * np.eye(self.spec.classes)[labels] + smoothing / self.spec.classes

    def _average(self, array: np.ndarray) -> np.ndarray:
        return self.spec.world.sum(array) / self.spec.world.size

    def loss_value(self, loss: float) -> float:
        return loss

    def evaluate(self, images: np.ndarray, labels: np.ndarray, valid: int) -> tuple[int, float]:
        logits = self.network.logits(self._pixels(images[:valid]))
        wrong = int((logits.argmax(1) != labels[:valid]).sum())
        return wrong, float(cross_entropies(logits, np.eye(self.spec.classes)[labels[:valid]]).sum())

    @property
    def gradient_bytes(self) -> int:
        return sum(array.nbytes for array in self.network.parameters.values())

    def average_batch_norm(self) -> None:
        for buffer in self.network.buffers.values():
            buffer[:] = self._average(buffer)

    def export_state(self) -> State:
        model = self.network.parameters | self.network.buffers
        return State(copied(model), copied(self.velocity), {})

    def import_state(self, state: State) -> None:
        for what, given, mine in (
            ("model", state.model, self.network.parameters | self.network.buffers),
            ("velocity", state.velocity, self.velocity),
        ):
            require_fit(what, given, {name: array.shape for name, array in mine.items()})
            for name, array in mine.items():
                array[:] = given[name]

    def broadcast(self) -> None:
        for arrays in (self.network.parameters, self.network.buffers, self.velocity):
            for array in arrays.values():
                array[:] = self.spec.world.broadcast(array)

    def profiler(self) -> Profiler:
        return NoProfiler()

    def environment(self) -> dict[str, Any]:
        return {"numpy": np.__version__, "device": "cpu", "threads": 1, "precision": self.spec.recipe.precision}


class NoProfiler(Profiler):
    """numpy has none: a profile has lbsgd's own spans alone."""

    def start(self, folder: Path, timeline: Path | None) -> None:
        pass

    def stop(self) -> list[dict[str, Any]]:
        return []


def squared(gradient: Arrays) -> float:
    """The squared norm of all of it."""
    return float(sum((array**2).sum() for array in gradient.values()))


def copied(arrays: Arrays) -> Arrays:
    """Copies that training does not change."""
    return {name: array.copy() for name, array in arrays.items()}


def create(spec: ReplicaSpec) -> ReferenceBackend:
    """The numpy replica for `spec`."""
    return ReferenceBackend(spec)
