"""What a run tells while it goes on: to its record, to the loggers and to the user. Rank 0 does; the others keep silent."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from statistics import median
from typing import Any, Unpack

from lbsgd.errors import Interrupted, LbsgdError
from lbsgd.measuring.efficiency import Pair
from lbsgd.record.loggers import Loggers, open_loggers
from lbsgd.record.run_content import RunContent, RunStatus
from lbsgd.record.run_record import RunRecord
from lbsgd.record.summary import LEAST_PAIRS, efficiency_interval
from lbsgd.training.evaluation import Evaluation
from lbsgd.training.meeting import Meeting
from lbsgd.training.outcome import compare, outcome, results
from lbsgd.training.progress import Reporter, Status, choose_reporter
from lbsgd.training.run import Run

TIMES = ("step", "compute", "waiting", "communication", "allreduce")
SQUARES = ("worker_gradient_squared", "gradient_squared")
"""What is logged of a pair."""


class Journal:
    """Rank 0's. Positions are iterations done."""

    def __init__(self, run: Run, record: RunRecord, loggers: Loggers, reporter: Reporter) -> None:
        self._run, self._record, self._loggers, self._reporter = run, record, loggers, reporter
        self._efficiencies: list[float] = []
        self._any_step = False

    def say(self, text: str) -> None:
        """Tell the user a line."""
        self._reporter.say(text)

    def keep(self, **parts: Unpack[RunContent]) -> None:
        """Set top-level keys of run.json."""
        self._record.update(**parts)

    def log(self, kind: str, **values: Any) -> None:
        """Append a line to metrics.jsonl, and hand its numbers to the loggers."""
        self._record.log(kind, **values)
        self._loggers.log(kind, values)

    def steps(self, meeting: Meeting) -> None:
        """The steps that the ranks met over."""
        if not self._any_step:
            self._any_step = True
            self._record.note_startup(self._run.startup.done())
        losses = meeting.losses.tolist()
        for step, loss, times in zip(meeting.steps, losses, meeting.times.tolist(), strict=True):
            epoch = self._run.epoch_at(step.iteration)
            counted = (
                {} if math.isnan(times[0]) else dict(zip(("step_ms", "data_ms", "other_ms"), map(_ms, times), strict=True))
            )
            self.log("step", step=step.iteration, epoch=epoch, lr=step.learning_rate, loss=loss, **counted)
        for iteration, pair in meeting.pairs.items():
            self._efficiencies.append(pair.efficiency)
            self._log_pair(iteration, pair)
        if not meeting.step_seconds:
            return
        done, rate = meeting.position, self._run.plan.global_batch / meeting.step_seconds
        self.log("speed", step=done - 1, epoch=self._run.epoch_at(done), images_per_second=rate)
        self._reporter.show(
            Status(
                iteration=done,
                epoch=self._run.epoch_at(done),
                learning_rate=meeting.steps[-1].learning_rate,
                loss=losses[-1],
                images_per_second=rate,
                efficiency=self._efficiency(),
                seconds_left=(self._run.span.stop - done) * meeting.step_seconds,
            )
        )

    def _log_pair(self, iteration: int, pair: Pair) -> None:
        parts = {f"{name}_ms": _ms(getattr(pair, name)) for name in TIMES}
        squares = {name: getattr(pair, name) for name in SQUARES}
        epoch = self._run.epoch_at(iteration)
        self.log("efficiency", step=iteration, epoch=epoch, efficiency=pair.efficiency, **parts, **squares)

    def _efficiency(self) -> tuple[float, float, float] | None:
        """So far, with its interval; None while too few steps were measured."""
        if len(self._efficiencies) < LEAST_PAIRS:
            return None
        return median(self._efficiencies), *efficiency_interval(self._efficiencies, self._run.plan.recipe.seed)

    def evaluation(self, position: int, evaluation: Evaluation) -> None:
        epoch = self._run.epoch_at(position)
        self.log("eval", step=max(0, position - 1), epoch=epoch, **asdict(evaluation))
        self.say(
            f"epoch {epoch:.4g}: top-1 error {100 * evaluation.top1_error:.2f} %, "
            f"loss {evaluation.loss:.4f} on {evaluation.samples:,} validation images"
        )

    def bad_samples(self, split: str, position: int, found: dict[int, tuple[str, str]]) -> None:
        """Unreadable images, found before `position`. split: "train" or "val". found: name and reason by sample."""
        what = "replaced by others" if split == "train" else "left out"
        for sample, (name, reason) in sorted(found.items()):
            self.log("bad_sample", step=max(0, position - 1), split=split, sample=sample, name=name, reason=reason)
            self.say(f"warning: cannot read image {name!r}: {reason}; {what}")

    def end(self, error: BaseException | None) -> None:
        """Record and tell how the run ended, unless this rank ended alone: then it does so as it takes the others along."""
        status: RunStatus = "done" if error is None else "interrupted" if isinstance(error, Interrupted) else "failed"
        if error is None or (isinstance(error, LbsgdError) and error.collective):
            self._record.end(status, str(error) if error else None)
            compare(self._record, self._run.request.baseline)
            for line in outcome(self._record.content):
                self.say(line)
            self._loggers.results(results(self._record.content), max(0, self._run.span.stop - 1))
        self._loggers.close(status)


class SilentJournal(Journal):
    """That of every other rank."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def say(self, text: str) -> None:
        pass

    def keep(self, **parts: Unpack[RunContent]) -> None:
        pass

    def log(self, kind: str, **values: Any) -> None:
        pass

    def steps(self, meeting: Meeting) -> None:
        pass

    def end(self, error: BaseException | None) -> None:
        pass


def _ms(seconds: float) -> float:
    """Milliseconds, to the microsecond."""
    return round(1000 * seconds, 3)


@contextmanager
def open_journal(run: Run) -> Iterator[Journal]:
    """This rank's journal, open while the run goes on; its end is recorded."""
    if run.record is None:
        yield SilentJournal(run)
        return
    with choose_reporter(run.span.start, run.span.stop) as reporter:
        loggers = open_loggers(run.request.log_to, run.record.folder, run.record.content, run.span.start, reporter.say)
        journal = Journal(run, run.record, loggers, reporter)
        try:
            yield journal
        except BaseException as error:
            journal.end(error)
            raise
        journal.end(None)
