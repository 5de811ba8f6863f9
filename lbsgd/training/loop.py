"""The training loop: the one there is, for every backend and any number of ranks.

Every rank runs it in step. Ranks meet in Horovod at every step, and through MPI about once a second (meeting.py).
"""

from contextlib import closing

from lbsgd.data.bad_samples import BadSamples, exchange
from lbsgd.errors import Interrupted
from lbsgd.measuring.steps import take_steps
from lbsgd.profiling.recorder import open_recorder
from lbsgd.ranks.signals import Interruption
from lbsgd.training.evaluation import Evaluation, evaluate
from lbsgd.training.journal import Journal, open_journal
from lbsgd.training.meeting import SyncPoint
from lbsgd.training.run import Run
from lbsgd.training.saving import last_checkpoint, save


def train(run: Run) -> Evaluation:
    """Take the run's steps, evaluating and saving after each epoch and at the end; the last evaluation. Collective.

    Raises Interrupted after a signal, when the state has been saved; NotFinite.
    """
    with Interruption() as signals, open_journal(run) as journal:
        return take_run(run, signals, journal)


def take_run(run: Run, signals: Interruption, journal: Journal) -> Evaluation:
    """As `train`, with what listens to signals and what tells. The run has a step to take, or owes an evaluation."""
    bad_samples = {split: BadSamples(run.request.bad_samples) for split in ("train", "val")}
    sync = SyncPoint(run.world, signals, bad_samples["train"])
    recorder = open_recorder(run.profile, run.backend, run.profile_folder, journal.say, journal.keep)
    with closing(run.batches(bad_samples["train"])) as batches, recorder:
        if run.owes_evaluation:
            evaluation = evaluate_at(run, journal, run.span.start, bad_samples["val"])
        for epoch in run.epochs():
            steps = run.startup.until_first(take_steps(run.backend, batches, run.schedule.lr, epoch, run.is_measured))
            for step in recorder.watch(steps, epoch.start):
                sync.add(step)
                is_last = step.iteration == epoch[-1]
                if sync.due or is_last:
                    meeting = sync.meet(ends_stretch=is_last)
                    journal.steps(meeting)
                    if meeting.newly_bad:
                        found = exchange(run.world, bad_samples["train"])
                        journal.bad_samples("train", meeting.position, found)
                    meeting.require_finite_losses(last_checkpoint(run))
                    if meeting.stop:
                        save_and_stop(run, signals, meeting.position)
            run.backend.average_batch_norm()
            evaluation = evaluate_at(run, journal, epoch.stop, bad_samples["val"])
            save(run, epoch.stop)
    return evaluation


def evaluate_at(run: Run, journal: Journal, position: int, bad_samples: BadSamples) -> Evaluation:
    """Evaluate the replica, whose batch norm has been averaged, and tell. Collective. Raises NotFinite."""
    known = set(bad_samples.known)
    what = run.dataset.validation, run.plan.recipe, run.world, run.reading
    evaluation = evaluate(run.backend, *what, bad_samples)
    found = {sample: (error.name, error.reason) for sample, error in bad_samples.known.items() if sample not in known}
    journal.bad_samples("val", position, found)
    journal.evaluation(position, evaluation)
    evaluation.require_finite_loss(last_checkpoint(run))
    return evaluation


def save_and_stop(run: Run, signals: Interruption, position: int) -> None:
    """Save the state in the middle of an epoch and raise Interrupted. Collective."""
    number = int(run.world.max(signals.exit_signal))
    run.backend.average_batch_norm()
    path = save(run, position)
    run.world.barrier()  # nobody leaves, and takes the others along, before the state is saved
    where = f"; state saved in {path}, resume with --resume {run.record.folder}" if path and run.record else ""
    raise Interrupted(f"stopped by a signal after iteration {position - 1}{where}", number)
