"""What run.json holds. Its keys are fixed, because other tools read them: keys are added, and none changes its meaning.

A key is missing until it is known; a value that could not be measured is None.
"""

from datetime import datetime
from typing import Any, Literal, TypedDict

RunStatus = Literal["running", "done", "failed", "interrupted", "killed"]


class Process(TypedDict):
    """Rank 0's. started: seconds since 1970, which tell it from a later process of the same number."""

    host: str
    pid: int
    started: float


class RecipeChange(TypedDict):
    """A value of the recipe that an attempt had otherwise than the one before. past: whether it was used before already."""

    key: str
    before: Any
    after: Any
    past: bool


class Attempt(TypedDict, total=False):
    """One start of the run. started, ended: UTC, ISO 8601. throughput, scaling: of its own steps. startup: seconds to the first
    step, by part, on rank 0.

    Older records have the first six keys alone.
    """

    started: str
    ended: str | None
    status: RunStatus
    start_iteration: int
    framework: str
    world_size: int
    error: str | None
    command: str
    world: "WorldContent"
    recipe_changes: list[RecipeChange]
    environment: dict[str, Any]
    process: Process
    startup: dict[str, float]
    throughput: "Throughput | None"
    scaling: "Scaling | None"
    noise_scale: "NoiseScaleContent | None"


class WorldContent(TypedDict):
    """The ranks. hosts: by name, in the order of ranks."""

    size: int
    local_size: int
    hosts: list[str]
    launcher: str
    accumulate: int
    virtual_workers: int


class ScheduleContent(TypedDict):
    """What follows from the recipe and the number of workers."""

    reference_lr: float
    peak_lr: float
    global_batch: int
    warmup_iterations: int
    iterations_per_epoch: int
    total_iterations: int


class StepMilliseconds(TypedDict):
    """Percentiles of the step times."""

    p50: float
    p90: float
    p99: float


class Throughput(TypedDict):
    """images_per_second: of all workers."""

    images_per_second: float
    images_per_second_per_worker: float
    step_ms: StepMilliseconds
    steps_timed: int


class TimeSplit(TypedDict, total=False):
    """Shares of a mean step; they sum to 1. Without `waiting`, as in older records, that is part of communication."""

    data: float
    compute: float
    waiting: float
    communication: float
    other: float


class Scaling(TypedDict, total=False):
    """Efficiency against a baseline of `baseline_workers`, all of whose images per second are given.

    Of measured steps: interval is the 95 % interval of the efficiency, pairs the number of measured steps, allreduce_ms the
    communication in full, hidden the share of it that backward hides, cost the share of the run's time that measuring took.
    """

    workers: int
    efficiency: float | None
    interval: list[float] | None
    pairs: int
    baseline_workers: int
    baseline_images_per_second: float | None
    baseline_run: str | None
    method: str
    allreduce_ms: float | None
    hidden: float | None
    cost: float | None


class NoiseScaleContent(TypedDict):
    """The gradient noise scale at the end of the run (lbsgd.policy.noise_scale). images: None where noise hides the gradient.

    samples_factor, steps_factor: what the run's global batch costs, in images and in steps, beside a tiny and a huge one.
    """

    images: float | None
    gradient_squared: float
    trace: float
    samples_factor: float | None
    steps_factor: float | None


class Final(TypedDict):
    """The last evaluation; errors are fractions."""

    top1_error: float
    loss: float | None
    epoch: float
    top1_error_median_of_final_epochs: float
    samples: int


class RunContent(TypedDict, total=False):
    """All of run.json. recipe: every value, resolved. environment: as `describe_environment` gives it."""

    schema: str
    id: str
    status: RunStatus
    error: str | None
    attempts: list[Attempt]
    framework: str
    command: str
    data: str
    world: WorldContent
    recipe: dict[str, Any]
    schedule: ScheduleContent
    throughput: Throughput | None
    time_split: TimeSplit | None
    scaling: Scaling | None
    scaling_baseline: Scaling | None
    noise_scale: NoiseScaleContent | None
    final: Final | None
    environment: dict[str, Any]
    bad_samples: dict[str, Any]


def seconds_of(record: RunContent) -> float | None:
    """How long all attempts took that said their end; None where none did."""
    lengths = [
        datetime.fromisoformat(one["ended"]) - datetime.fromisoformat(one["started"])
        for one in record["attempts"]
        if one["ended"]
    ]
    return sum(length.total_seconds() for length in lengths) if lengths else None


def key_figures(record: RunContent) -> tuple[float | None, float | None, float | None]:
    """What a line about a run says: top-1 error, images per second and scaling efficiency, as far as they are known."""
    final, throughput, scaling = record.get("final"), record.get("throughput"), record.get("scaling")
    return (
        final["top1_error"] if final else None,
        throughput["images_per_second"] if throughput else None,
        scaling["efficiency"] if scaling else None,
    )
