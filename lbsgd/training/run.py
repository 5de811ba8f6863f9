"""A run: what was asked for, and what `train` needs to take its steps."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from lbsgd.backends.contract import Backend
from lbsgd.data.bad_samples import BadSamplePolicy, BadSamples
from lbsgd.data.batch import Batch, Reading, Share
from lbsgd.data.loader import training_batches
from lbsgd.data.source import Dataset
from lbsgd.measuring.baseline import Baseline
from lbsgd.measuring.efficiency import NEIGHBOURS, is_measured
from lbsgd.policy.order import Order
from lbsgd.policy.plan import Plan
from lbsgd.policy.recipe import Recipe
from lbsgd.policy.schedule import Schedule
from lbsgd.profiling.window import Window, place_window
from lbsgd.ranks.world import World
from lbsgd.record.run_record import RunRecord
from lbsgd.training.resuming import Resumed
from lbsgd.training.startup import Startup


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for. None: the default, or when resuming what the run had."""

    framework: str
    data: str
    recipe: Recipe
    accumulate: int | None = None
    max_steps: int | None = None
    channels_last: bool = True
    compile: str = "auto"
    deterministic: bool = False
    profile: str | None = None
    run_dir: Path | None = None
    runs: Path = Path("runs")
    resume: Resumed | None = None
    data_threads: int | None = None
    read_timeout: float = 120.0
    bad_samples: BadSamplePolicy
    efficiency_every: int = 50
    baseline: Baseline | None = None
    accept_other_data: bool = False
    keep_checkpoints: int = 5
    log_to: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that can start, on one rank. record: on rank 0 only. span: the iterations to take."""

    request: Request
    plan: Plan
    dataset: Dataset
    backend: Backend
    record: RunRecord | None
    span: range
    startup: Startup

    @property
    def world(self) -> World:
        return self.backend.spec.world

    @property
    def schedule(self) -> Schedule:
        return self.plan.schedule

    @property
    def owes_evaluation(self) -> bool:
        """Whether the run was stopped between an epoch's last step and its evaluation."""
        resume, start = self.request.resume, self.span.start
        if resume is None or resume.evaluated:
            return False
        return not self.span or (resume.is_newest and start % self.schedule.iterations_per_epoch == 0)

    @property
    def reading(self) -> Reading:
        threads = self.request.data_threads or self.backend.spec.threads
        return Reading(threads, self.request.read_timeout, self.request.bad_samples)

    @property
    def profile(self) -> Window | None:
        """The iterations to profile."""
        return place_window(self.request.profile, self.span.start, self.span.stop) if self.request.profile else None

    def is_measured(self, iteration: int) -> bool:
        """Whether the iteration is a measured step. One worker has nothing to scale; a profile is one of ordinary steps."""
        if (
            self.world.size == 1
            or (window := self.profile)
            and window.first - NEIGHBOURS <= iteration < window.stop + NEIGHBOURS
        ):
            return False
        return is_measured(iteration, self.request.efficiency_every)

    @property
    def profile_folder(self) -> Path | None:
        """Where the profile goes; None where none is made, as on all ranks but the first."""
        return self.record.folder / "profile" if self.record and self.request.profile else None

    def epochs(self) -> Iterator[range]:
        """The iterations of each epoch that the run takes all or some of."""
        length = self.schedule.iterations_per_epoch
        position = self.span.start
        while position < self.span.stop:
            end = min(self.span.stop, (position // length + 1) * length)
            yield range(position, end)
            position = end

    def epoch_at(self, iteration: int) -> float:
        """How many epochs are done when `iteration` begins."""
        return iteration / self.schedule.iterations_per_epoch

    def batches(self, bad_samples: BadSamples) -> Generator[Batch, None, None]:
        """This rank's batches of the whole span."""
        order = Order(self.plan.recipe.seed, len(self.dataset.train), self.plan.global_batch)
        return training_batches(
            self.dataset.train,
            self.plan.recipe.images,
            order,
            Share(self.world.rank, self.world.size),
            self.span,
            self.reading,
            bad_samples=bad_samples,
            allocate=self.backend.allocate,
        )
