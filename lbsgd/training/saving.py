"""Saving a run's state."""

from pathlib import Path

from lbsgd.record.checkpoint import save_checkpoint
from lbsgd.training.run import Run


def save(run: Run, position: int) -> Path | None:
    """Write the checkpoint of `position` steps done, on rank 0; None on the others. Batch norm must have been averaged."""
    if run.record is None:
        return None
    about = {
        "epoch": run.epoch_at(position),
        "framework": run.backend.framework,
        "classes": list(run.dataset.train.classes),
        "samples": len(run.dataset.train),
        "virtual_workers": run.plan.k,
        "global_batch": run.plan.global_batch,
        "recipe": run.plan.recipe.model_dump(mode="json"),
    }
    state = run.backend.export_state()
    return save_checkpoint(run.record.checkpoints, position, state, about, keep=run.request.keep_checkpoints)
