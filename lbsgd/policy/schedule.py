"""The learning rate of every iteration, from the recipe, the global batch and the iterations of an epoch.

Pure, and the only place where a learning rate is computed. The peak and the levels of step decay are worked
out in decimals, so that 3.2 falls to 0.32, 0.032 and 0.0032 and not to their neighbours.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lbsgd.policy.recipe import LearningRate, Recipe


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A run's learning rate; all points and lengths are in iterations.

    warmup_start: the rate that a warm-up begins with.
    decay_points, levels: the rate is levels[j] once j of the sorted points are reached; [0] is the peak.
    Only step decay has points; one inside the warm-up scales what is left of the warm-up by the same factor.
    Cosine and polynomial decay run from the end of the warm-up to the end of the run.
    """

    reference_lr: float
    peak_lr: float
    global_batch: int
    iterations_per_epoch: int
    total_iterations: int
    warmup: Literal["gradual", "constant", "none"]
    warmup_iterations: int
    warmup_start: float
    decay: Literal["steps", "cosine", "polynomial", "constant"]
    decay_points: tuple[int, ...]
    levels: tuple[float, ...]
    end_lr: float
    power: float

    def lr(self, iteration: int) -> float:
        """The rate of that iteration, the first being 0.

        Raises ValueError outside [0, total_iterations).
        """
        if not 0 <= iteration < self.total_iterations:
            raise ValueError(f"iteration {iteration} is outside the run's 0 to {self.total_iterations - 1}")
        level = self.levels[bisect_right(self.decay_points, iteration)]
        if iteration < self.warmup_iterations:
            return self._warmup_lr(iteration) * (level / self.peak_lr)
        if self.decay in ("cosine", "polynomial"):
            return self.end_lr + (self.peak_lr - self.end_lr) * self._remaining(iteration)
        return level

    def _warmup_lr(self, iteration: int) -> float:
        """Paper, section 2.2: from the reference rate, or the recipe's start, gradual by the same amount each iteration."""
        if self.warmup == "constant":
            return self.warmup_start
        return self.warmup_start + (self.peak_lr - self.warmup_start) * iteration / self.warmup_iterations

    def _remaining(self, iteration: int) -> float:
        """How far the rate still is above `end_lr`: 1 at the end of the warm-up, 0 at the end of the run."""
        done = (iteration - self.warmup_iterations) / (self.total_iterations - self.warmup_iterations)
        return (1 + math.cos(math.pi * done)) / 2 if self.decay == "cosine" else (1 - done) ** self.power


def build_schedule(recipe: "Recipe", *, global_batch: int, iterations_per_epoch: int) -> Schedule:
    """The schedule of `recipe` for that many samples per iteration.

    There is no warm-up unless the global batch is above the reference batch (in the paper: kn > 256) or the recipe says where
    it starts.
    """
    peak = _peak(recipe.learning_rate, global_batch)
    start = recipe.warmup.start
    warms_up = start is not None or global_batch > recipe.learning_rate.reference_batch
    warmup = recipe.warmup.kind if warms_up else "none"
    points = recipe.decay.at if recipe.decay.kind == "steps" else ()
    factor = _decimal(recipe.decay.factor)
    return Schedule(
        reference_lr=recipe.learning_rate.reference,
        peak_lr=float(peak),
        global_batch=global_batch,
        iterations_per_epoch=iterations_per_epoch,
        total_iterations=recipe.epochs * iterations_per_epoch,
        warmup=warmup,
        warmup_iterations=0 if warmup == "none" else recipe.warmup.duration.iterations(iterations_per_epoch),
        warmup_start=recipe.learning_rate.reference if start is None else start,
        decay=recipe.decay.kind,
        decay_points=tuple(sorted(point.iterations(iterations_per_epoch) for point in points)),
        levels=tuple(float(peak * factor**reached) for reached in range(len(points) + 1)),
        end_lr=recipe.decay.end,
        power=recipe.decay.power,
    )


def _peak(rule: "LearningRate", global_batch: int) -> Decimal:
    """Paper, section 2.1: a minibatch k times as large takes a rate k times as large."""
    ratio = Decimal(global_batch) / rule.reference_batch
    factor = {"linear": ratio, "sqrt": ratio.sqrt(), "none": Decimal(1)}[rule.scaling]
    return _decimal(rule.reference) * factor


def _decimal(number: float) -> Decimal:
    """The decimal number that a float was written as: 0.1, not 0.1000000000000000055."""
    return Decimal(repr(number))
