"""What a run came to: its record's results, and what is said of them at its end."""

import math
from statistics import median

from lbsgd.data.bad_samples import BadSamples
from lbsgd.measuring.baseline import find_baseline
from lbsgd.measuring.efficiency import StepTimes, summarise
from lbsgd.record.run_content import Final, RunContent
from lbsgd.record.run_record import RunRecord
from lbsgd.training.evaluation import Evaluation
from lbsgd.training.journal import Journal
from lbsgd.training.run import Run

FINAL_EPOCHS = 5
"""The paper reports the median error of the final five epochs (section 5.1)."""


def record_outcome(
    run: Run,
    journal: Journal,
    evaluations: list[Evaluation],
    times: StepTimes,
    alone: float | None,
    bad_samples: dict[str, BadSamples],
) -> None:
    """Record and tell the last evaluation, the speed and the scaling efficiency. Collective.

    alone: seconds of this worker's step without communication, None where it was not measured. bad_samples: by split.
    """
    summary: RunContent = summarise(run.world, times, alone, run.images_per_rank) or {}
    last = evaluations[-1]
    final: Final = {
        "top1_error": last.top1_error,
        "loss": last.loss if math.isfinite(last.loss) else None,
        "epoch": run.epoch_at(run.span.stop),
        "top1_error_median_of_final_epochs": median(one.top1_error for one in evaluations[-FINAL_EPOCHS:]),
        "samples": last.samples,
    }
    counts = {split: len(found.known) for split, found in bad_samples.items()}
    journal.keep(**summary)
    journal.keep(final=final, bad_samples={"policy": str(run.request.bad_samples), **counts})
    workers = run.world.size
    throughput, scaling = summary.get("throughput"), summary.get("scaling")
    if throughput:
        rate = throughput["images_per_second"]
        journal.say(f"speed: {rate:,.0f} images/s on {counted(workers)}, {rate / workers:,.0f} per worker")
    if scaling:
        share = 100 * scaling["efficiency"]
        journal.say(f"scaling efficiency: {share:.1f} % ({counted(workers)}, each against itself without communication)")
    if throughput and run.record:
        compare_with_baseline(run.record, workers, throughput["images_per_second"], journal)


def compare_with_baseline(record: RunRecord, workers: int, images_per_second: float, journal: Journal) -> None:
    """Record and tell the efficiency against another run, where there is one to compare with. On rank 0."""
    baseline = find_baseline(record.folder.parent, record.content)
    if baseline is None:
        return
    scaling = baseline.scaling(workers, images_per_second)
    journal.keep(scaling_baseline=scaling)
    journal.say(
        f"scaling efficiency: {100 * scaling['efficiency']:.1f} % ({counted(workers)} against {counted(baseline.workers)} "
        f"of {baseline.run})"
    )


def counted(workers: int) -> str:
    """1 worker, 2 workers."""
    return f"{workers} worker{'s' if workers > 1 else ''}"
