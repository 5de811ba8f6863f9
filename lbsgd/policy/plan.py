"""What a run would do, derived before anything runs: batch, iterations, rates, memory, and what to beware of.

`lbsgd plan` prints a plan and `lbsgd train` follows one, so what the first says is what the second does.
"""

from dataclasses import dataclass
from typing import NamedTuple

from lbsgd.errors import DataError
from lbsgd.models import describe, library_model
from lbsgd.policy.recipe import Recipe
from lbsgd.policy.schedule import Schedule, build_schedule

LARGEST_SAFE_BATCH = 8192
BYTES_PER_NUMBER = 4


class Reason(NamedTuple):
    """A derived value with the rule it came from."""

    name: str
    value: int | float | str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe on `world_size` ranks of `accumulate` virtual workers each, over `samples` training images.

    parameters: the network's, None where the network or its number of classes is not known.
    """

    recipe: Recipe
    world_size: int
    accumulate: int
    samples: int
    parameters: int | None
    schedule: Schedule

    @property
    def k(self) -> int:
        """Virtual workers: groups of n images with batch norm statistics of their own."""
        return self.world_size * self.accumulate

    @property
    def n(self) -> int:
        """Images a virtual worker takes at each iteration."""
        return self.recipe.batch_per_worker

    @property
    def global_batch(self) -> int:
        """Images of one iteration, the paper's kn."""
        return self.k * self.n

    @property
    def iterations_per_epoch(self) -> int:
        return self.schedule.iterations_per_epoch

    @property
    def total_iterations(self) -> int:
        return self.schedule.total_iterations

    @property
    def samples_left_over(self) -> int:
        """Images at the end of an epoch's permutation, too few for an iteration."""
        return self.samples % self.global_batch

    @property
    def gradient_bytes(self) -> int | None:
        """What one allreduce sums: a float32 gradient for each parameter."""
        return None if self.parameters is None else BYTES_PER_NUMBER * self.parameters

    @property
    def state_bytes(self) -> int | None:
        """A rank's weights, gradients and momentum in float32. Activations come on top."""
        return None if self.gradient_bytes is None else 3 * self.gradient_bytes

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the paper or plain arithmetic says against this plan."""
        checks = (_large_batch, _other_batch_per_worker, _endless_warmup, _unreached_decay)
        return tuple(text for text in (check(self) for check in checks) if text)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Every derived number in the order of its derivation."""
        return (*_batch_rows(self), *_length_rows(self), *_rate_rows(self), *_size_rows(self))


def make_plan(recipe: Recipe, *, world_size: int, accumulate: int = 1, samples: int, classes: int | None = None) -> Plan:
    """The plan of `recipe` for these ranks and this number of training images.

    Raises DataError when the images do not fill one iteration, UsageError for an unknown model.
    """
    k, n = world_size * accumulate, recipe.batch_per_worker
    if k * n > samples:
        raise DataError(
            f"global batch {k * n} ({k} workers x {n} images) is larger than the {samples} training images; "
            "use fewer workers, a smaller batch per worker, or more images"
        )
    return Plan(
        recipe=recipe,
        world_size=world_size,
        accumulate=accumulate,
        samples=samples,
        parameters=None if classes is None else _parameters(recipe.model, classes),
        schedule=build_schedule(recipe, global_batch=k * n, iterations_per_epoch=samples // (k * n)),
    )


def _parameters(model: str, classes: int) -> int | None:
    if library_model(model):
        return None
    return sum(parameter.size for parameter in describe(model, classes).parameters.values())


def _large_batch(plan: Plan) -> str | None:
    if plan.global_batch <= LARGEST_SAFE_BATCH:
        return None
    return (
        f"global batch {plan.global_batch} is above {LARGEST_SAFE_BATCH}, from where on accuracy falls "
        "in the paper: top-1 error 23.74 % at 8k, 24.79 % at 16k, 27.55 % at 32k, 33.96 % at 64k"
    )


def _other_batch_per_worker(plan: Plan) -> str | None:
    own = plan.recipe.own_batch_per_worker
    if plan.n == own:
        return None
    return (
        f"batch per worker n = {plan.n} is not the recipe's {own}: n is a hyper-parameter of the loss, "
        "through batch norm (paper, section 2.3), so accuracy may differ at the same global batch"
    )


def _endless_warmup(plan: Plan) -> str | None:
    schedule = plan.schedule
    if schedule.warmup_iterations < schedule.total_iterations:
        return None
    return (
        f"warm-up takes {schedule.warmup_iterations} iterations and the run has {schedule.total_iterations}: "
        f"the peak lr {schedule.peak_lr:g} is never reached"
    )


def _unreached_decay(plan: Plan) -> str | None:
    points = plan.schedule.decay_points
    late = [point for point in points if point >= plan.total_iterations]
    if not late:
        return None
    return (
        f"{len(late)} of {len(points)} decay points lie beyond the run's {plan.recipe.epochs} epochs "
        "and never apply; set decay.at to go with epochs"
    )


def _batch_rows(plan: Plan) -> list[Reason]:
    recipe = plan.recipe
    return [
        Reason("recipe", recipe.name, f"{recipe.model}, {recipe.precision}, seed {recipe.seed}"),
        Reason("workers k", plan.k, f"ranks {plan.world_size} x accumulate {plan.accumulate}"),
        Reason("batch per worker n", plan.n, "batch norm statistics are over these images"),
        Reason("global batch kn", plan.global_batch, f"{plan.k} workers x {plan.n} images"),
    ]


def _length_rows(plan: Plan) -> list[Reason]:
    each = plan.iterations_per_epoch
    wait = f"; {plan.samples_left_over} leftover images per epoch" if plan.samples_left_over else ""
    return [
        Reason("epochs", plan.recipe.epochs, "passes over the training images"),
        Reason("iterations per epoch", each, f"{plan.samples} images / {plan.global_batch}, full iterations{wait}"),
        Reason("iterations", plan.total_iterations, f"{plan.recipe.epochs} epochs x {each}"),
    ]


def _rate_rows(plan: Plan) -> list[Reason]:
    rule, schedule = plan.recipe.learning_rate, plan.schedule
    scale = {
        "linear": f"{rule.reference:g} x {plan.global_batch} / {rule.reference_batch}, linear scaling",
        "sqrt": f"{rule.reference:g} x sqrt({plan.global_batch} / {rule.reference_batch}), sqrt scaling",
        "none": f"{rule.reference:g} at any global batch, no scaling",
    }
    return [
        Reason("reference lr", rule.reference, f"for a global batch of {rule.reference_batch}"),
        Reason("peak lr", schedule.peak_lr, scale[rule.scaling]),
        _warmup_row(plan),
        *_decay_rows(plan),
    ]


def _warmup_row(plan: Plan) -> Reason:
    schedule, warmup = plan.schedule, plan.recipe.warmup
    if schedule.warmup == "none":
        below = f"a global batch of {plan.global_batch} is not above {plan.recipe.learning_rate.reference_batch}"
        return Reason("warm-up", "none", "from the recipe" if warmup.kind == "none" else below)
    shape = {
        "gradual": f"gradual: from lr {schedule.warmup_start:g} to {schedule.peak_lr:g} by equal steps",
        "constant": f"constant: lr {schedule.warmup_start:g}, then {schedule.peak_lr:g}",
    }
    return Reason("warm-up", f"{schedule.warmup_iterations} it", f"{warmup.duration}, {shape[schedule.warmup]}")


def _decay_rows(plan: Plan) -> list[Reason]:
    schedule = plan.schedule
    if schedule.decay == "constant":
        return [Reason("decay", "none", "from the recipe")]
    if schedule.decay != "steps":
        first, end = (
            schedule.warmup_iterations,
            f"lr {schedule.end_lr:g} at iteration {plan.total_iterations}",
        )
        return [Reason("decay", schedule.decay, f"from iteration {first} to {end}")]
    factor = plan.recipe.decay.factor
    return [
        Reason(
            f"lr from epoch {point / schedule.iterations_per_epoch:g}",
            level,
            f"iteration {point}, x {factor:g}",
        )
        for point, level in zip(schedule.decay_points, schedule.levels[1:], strict=True)
        if point < plan.total_iterations
    ]


def _size_rows(plan: Plan) -> list[Reason]:
    if plan.parameters is None or plan.gradient_bytes is None or plan.state_bytes is None:
        return [Reason("parameters", "not known", f"{plan.recipe.model}, {_why_unknown(plan.recipe.model)}")]
    return [
        Reason("parameters", plan.parameters, plan.recipe.model),
        Reason("allreduce", _megabytes(plan.gradient_bytes), "the gradients of an iteration, float32"),
        Reason(
            "state",
            _megabytes(plan.state_bytes),
            "weights, gradients and momentum on a rank, without activations",
        ),
    ]


def _why_unknown(model: str) -> str:
    return "a network of another library" if library_model(model) else "for a number of classes not given"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
