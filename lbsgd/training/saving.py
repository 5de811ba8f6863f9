"""Saving a run's state."""

from pathlib import Path

from lbsgd.errors import NotFinite
from lbsgd.record.checkpoint import list_checkpoints, save_checkpoint
from lbsgd.training.run import Run


def save(run: Run, position: int) -> Path | None:
    """Write the checkpoint of `position` steps done, on rank 0; None on the others. Batch norm must have been averaged.

    Collective. Raises NotFinite on all ranks, and writes nothing, when the state has a value that is not a finite number.
    """
    state = run.backend.export_state() if run.record else None
    if broken := run.world.broadcast(state and state.not_finite):
        raise NotFinite(
            f"after iteration {position - 1} {broken} holds values that are not finite; it is not saved. {last_checkpoint(run)}"
        )
    if run.record is None or state is None:
        return None
    about = {
        "epoch": run.epoch_at(position),
        "framework": run.backend.framework,
        "classes": list(run.dataset.train.classes),
        "samples": len(run.dataset.train),
        "data": {"train": run.dataset.train.digest, "val": run.dataset.validation.digest},
        "virtual_workers": run.plan.k,
        "global_batch": run.plan.global_batch,
        "recipe": run.plan.recipe.model_dump(mode="json"),
    }
    return save_checkpoint(run.record.checkpoints, position, state, about, keep=run.request.keep_checkpoints)


def last_checkpoint(run: Run) -> str:
    """A sentence about what a run that went wrong can be resumed from; "" on ranks that have no record."""
    if run.record is None:
        return ""
    found = list_checkpoints(run.record.checkpoints)
    return f"The last good checkpoint is {found[-1]}" if found else "There is no checkpoint yet"
