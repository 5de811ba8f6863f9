"""The training loop: the one there is, for both frameworks and any number of ranks.

Every rank runs it in step. Ranks meet in Horovod at every step, and through MPI about once a second: there the losses are
averaged, and a signal that any rank received stops them all at the same iteration.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from lbsgd.backends.contract import Backend
from lbsgd.data.bad_samples import BadSamples, exchange
from lbsgd.data.batch import Batch, Reading, Share
from lbsgd.data.loader import training_batches
from lbsgd.data.source import Dataset
from lbsgd.errors import Interrupted, NonFiniteLoss
from lbsgd.measuring.baseline import METHOD as AGAINST_BASELINE
from lbsgd.measuring.baseline import find_baseline
from lbsgd.measuring.efficiency import METHOD, StepTimes, live_efficiency, summarise, time_alone
from lbsgd.measuring.steps import Step, take_steps
from lbsgd.policy.order import Order
from lbsgd.policy.plan import Plan
from lbsgd.profiling.recorder import Recorder
from lbsgd.profiling.window import Window
from lbsgd.ranks.signals import Interruption
from lbsgd.ranks.world import World
from lbsgd.record.checkpoint import save_checkpoint
from lbsgd.record.loggers import Sinks, open_sinks
from lbsgd.record.run_record import RunRecord
from lbsgd.training.evaluation import Evaluation, evaluate
from lbsgd.training.progress import Reporter, Status, choose_reporter

MEETING_SECONDS = 1.0
MOST_STEPS_BETWEEN_MEETINGS = 100
FINAL_EPOCHS = 5
"""The paper reports the median error of the final five epochs (section 5.1)."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What `train` needs, resolved. start, stop: iterations; record: on rank 0 only."""

    plan: Plan
    dataset: Dataset
    world: World
    backend: Backend
    record: RunRecord | None
    start: int
    stop: int
    profile: Window | None
    reading: Reading
    efficiency_steps: int
    keep_checkpoints: int
    log_to: tuple[str, ...]

    @property
    def order(self) -> Order:
        return Order(self.plan.recipe.seed, len(self.dataset.train), self.plan.global_batch)

    @property
    def images_per_rank(self) -> int:
        return self.plan.global_batch // self.world.size

    def batches(self, bad_samples: BadSamples) -> Iterator[Batch]:
        """This rank's batches from `start` on."""
        return training_batches(
            self.dataset.train,
            self.plan.recipe.images,
            self.order,
            Share(self.world.rank, self.world.size),
            range(self.start, self.stop),
            self.reading,
            bad_samples=bad_samples,
            allocate=self.backend.allocate,
        )


@dataclass(frozen=True)
class Outcome:
    """The last evaluation, the scaling efficiency (None when it was not measured) and images a second of all workers."""

    evaluation: Evaluation
    efficiency: float | None
    images_per_second: float | None


def train(run: Run) -> Outcome:
    """Train from `run.start` to `run.stop`, evaluating and saving after each epoch and at the end. Collective.

    Raises Interrupted after a signal, when the state has been saved; NonFiniteLoss.
    """
    with Interruption() as interruption, choose_reporter(run.world.is_first, run.start, run.stop) as reporter:
        return _Training(run, interruption, reporter).run_to_end()


class _Training:
    def __init__(self, run: Run, interruption: Interruption, reporter: Reporter) -> None:
        self.run, self.interruption, self.reporter = run, interruption, reporter
        self.schedule = run.plan.schedule
        self.bad_samples = {split: BadSamples(run.reading.bad_samples) for split in ("train", "val")}
        self.times = StepTimes()
        self.alone: float | None = None
        self.evaluation: Evaluation | None = None
        self.errors: list[float] = []
        self.unreported: list[Step] = []
        self.sinks: Sinks | None = None
        self.recorder: Recorder | None = None
        self.meeting_after = 1

    def run_to_end(self) -> Outcome:
        status = "failed"
        try:
            outcome = self._run()
            status = "done"
            return outcome
        except Interrupted:
            status = "interrupted"
            raise
        finally:
            if self.sinks:
                self.sinks.close(status)

    def _run(self) -> Outcome:
        run = self.run
        if run.record and run.log_to:
            self.sinks = open_sinks(run.log_to, run.record.folder, run.record.content, run.start, self.reporter.say)
        if run.efficiency_steps and run.start < run.stop:
            self.reporter.say("timing each worker with communication off ...")
            self.alone = time_alone(
                run.world, run.backend, self.schedule.lr, self._batches, run.start, run.stop, run.efficiency_steps
            )
        batches = self._batches()
        if run.record and run.profile:
            folder = run.record.folder / "profile"
            self.recorder = Recorder(run.profile, run.backend, folder, self.reporter.say, run.record.update)
        try:
            self._train_epochs(batches)
        finally:
            batches.close()
            if self.recorder:
                self.recorder.close()
        if self.evaluation is None:  # resumed at the end, or nothing to do
            self._evaluate(run.stop)
        return self._finish()

    def _batches(self) -> Iterator[Batch]:
        return self.run.batches(self.bad_samples["train"])

    def _log(self, kind: str, **values: Any) -> None:
        """On rank 0."""
        self.run.record.log(kind, **values)
        if self.sinks:
            self.sinks.log(kind, values)

    def _train_epochs(self, batches: Iterator[Batch]) -> None:
        run, length = self.run, self.schedule.iterations_per_epoch
        position = run.start
        while position < run.stop:
            end = min(run.stop, (position // length + 1) * length)
            steps = take_steps(run.backend, batches, self.schedule.lr, range(position, end))
            for step in self.recorder.watch(steps, position) if self.recorder else steps:
                self._count(step, last=step.iteration == end - 1)
            position = end
            run.backend.average_batch_norm()
            self._evaluate(position)
            self._save(position)

    def _count(self, step: Step, last: bool) -> None:
        self.times.add(step)
        self.unreported.append(step)
        if last or len(self.unreported) >= self.meeting_after:
            self._meet()

    def _meet(self) -> None:
        """Average the losses since the last meeting over the ranks, and learn whether any rank was told to stop."""
        run, steps = self.run, self.unreported
        own = [step.loss for step in steps]
        first = run.world.is_first
        pace = self._steps_in(MEETING_SECONDS) if first else 0
        bad_samples = self.bad_samples["train"]
        vector = run.world.sum(np.array([*own, self.interruption.exit_signal, pace, bad_samples.new_count], np.float64))
        losses, (stop_signals, pace, newly_bad) = vector[:-3] / run.world.size, vector[-3:]
        self.unreported, self.meeting_after = [], int(pace)
        self._report(steps, losses)
        position = steps[-1].iteration + 1
        if newly_bad:
            self._report_bad_samples("train", position, exchange(run.world, bad_samples))
        if not np.isfinite(losses).all():
            bad = steps[int(np.argmin(np.isfinite(losses)))].iteration
            raise NonFiniteLoss(
                f"the loss is not finite from iteration {bad} on; the last checkpoint is untouched. "
                "Lower the learning rate or lengthen the warm-up"
            )
        if stop_signals:
            self._stop(position)

    def _steps_in(self, seconds: float) -> int:
        step, _ = self.times.recent()
        return max(1, min(MOST_STEPS_BETWEEN_MEETINGS, round(seconds / step))) if step else 1

    def _report(self, steps: list[Step], losses: np.ndarray) -> None:
        if self.run.record is None:
            return
        length = self.schedule.iterations_per_epoch
        for step, loss in zip(steps, losses.tolist(), strict=True):
            self._log("step", step=step.iteration, epoch=step.iteration / length, lr=step.learning_rate, loss=loss)
        step, busy = self.times.recent()
        if not step:
            return
        done = steps[-1].iteration + 1
        rate = self.run.plan.global_batch / step
        self._log("speed", step=done - 1, epoch=done / length, images_per_second=rate)
        self.reporter.show(
            Status(
                iteration=done,
                epoch=done / length,
                learning_rate=steps[-1].learning_rate,
                loss=float(losses[-1]),
                images_per_second=rate,
                efficiency=live_efficiency(self.alone, busy),
                seconds_left=(self.run.stop - done) * step,
            )
        )

    def _evaluate(self, position: int) -> None:
        run = self.run
        epoch = position / self.schedule.iterations_per_epoch
        bad_samples = self.bad_samples["val"]
        known = set(bad_samples.known)
        self.evaluation = evaluate(
            run.backend,
            run.dataset.validation,
            run.plan.recipe,
            run.world,
            run.reading,
            bad_samples,
        )
        found = {sample: (error.name, error.reason) for sample, error in bad_samples.known.items() if sample not in known}
        self._report_bad_samples("val", position, found)
        self.errors.append(self.evaluation.top1_error)
        if run.record:
            self._log("eval", step=max(0, position - 1), epoch=epoch, **asdict(self.evaluation))
        self.reporter.say(
            f"epoch {epoch:.4g}: top-1 error {100 * self.evaluation.top1_error:.2f} %, "
            f"loss {self.evaluation.loss:.4f} on {self.evaluation.samples:,} validation images"
        )

    def _report_bad_samples(self, split: str, position: int, found: dict[int, tuple[str, str]]) -> None:
        """Log unreadable images, which were found before iteration `position`. found: name and reason by sample."""
        if self.run.record is None:
            return
        what = "replaced by others" if split == "train" else "left out"
        for sample, (name, reason) in sorted(found.items()):
            self._log("bad_sample", step=max(0, position - 1), split=split, sample=sample, name=name, reason=reason)
            self.reporter.say(f"warning: cannot read image {name!r}: {reason}; {what}")

    def _save(self, position: int) -> Path | None:
        """Write a checkpoint on rank 0; batch norm must have been averaged."""
        run = self.run
        if run.record is None:
            return None
        about = {
            "epoch": position / self.schedule.iterations_per_epoch,
            "framework": run.backend.framework,
            "classes": list(run.dataset.train.classes),
            "samples": len(run.dataset.train),
            "virtual_workers": run.plan.k,
            "global_batch": run.plan.global_batch,
            "recipe": run.plan.recipe.model_dump(mode="json"),
        }
        state = run.backend.export_state()
        return save_checkpoint(run.record.checkpoints, position, state, about, keep=run.keep_checkpoints)

    def _stop(self, position: int) -> None:
        number = int(self.run.world.max(self.interruption.exit_signal))
        self.run.backend.average_batch_norm()
        path = self._save(position)
        self.run.world.barrier()  # nobody leaves, and takes the others along, before the state is saved
        where = f"; state saved in {path}, go on with --resume {self.run.record.folder}" if path else ""
        raise Interrupted(f"stopped by a signal after iteration {position - 1}{where}", number)

    def _finish(self) -> Outcome:
        run = self.run
        summary = summarise(run.world, self.times, self.alone, run.images_per_rank) or {}
        efficiency = summary.get("scaling", {}).get("efficiency")
        rate = summary.get("throughput", {}).get("images_per_second")
        if run.record:
            final = {
                "top1_error": self.evaluation.top1_error,
                "loss": self.evaluation.loss if math.isfinite(self.evaluation.loss) else None,
                "epoch": run.stop / self.schedule.iterations_per_epoch,
                "top1_error_median_of_final_epochs": median(self.errors[-FINAL_EPOCHS:]),
                "samples": self.evaluation.samples,
            }
            counts = {split: len(bad_samples.known) for split, bad_samples in self.bad_samples.items()}
            run.record.update(final=final, bad_samples={"policy": str(run.reading.bad_samples), **counts}, **summary)
        self._say_result(efficiency, rate)
        self._compare_with_baseline(rate)
        return Outcome(self.evaluation, efficiency, rate)

    def _compare_with_baseline(self, rate: float | None) -> None:
        """Record and tell the efficiency against another run, where there is one to compare with."""
        record, workers = self.run.record, self.run.world.size
        baseline = find_baseline(record.folder.parent, record.content) if record and rate else None
        if baseline is None:
            return
        scaling = baseline.scaling(workers, rate)
        record.update(scaling_baseline=scaling)
        self.reporter.say(
            f"scaling efficiency: {100 * scaling['efficiency']:.1f} % of {baseline.run}, {baseline.workers} "
            f"worker{'s' if baseline.workers > 1 else ''} ({AGAINST_BASELINE})"
        )

    def _say_result(self, efficiency: float | None, rate: float | None) -> None:
        workers = self.run.world.size
        if rate is not None:
            self.reporter.say(f"speed: {rate:,.0f} images/s on {workers} workers, {rate / workers:,.0f} a worker")
        if efficiency is not None:
            self.reporter.say(f"scaling efficiency: {100 * efficiency:.1f} % of {workers} workers alone ({METHOD})")
