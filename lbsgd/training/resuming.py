"""Resuming a run from one of its checkpoints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lbsgd.backends.contract import Backend
from lbsgd.errors import CheckpointError, UsageError
from lbsgd.models.state import State
from lbsgd.policy.plan import Plan
from lbsgd.ranks.agreement import together
from lbsgd.ranks.world import World
from lbsgd.record.checkpoint import find_checkpoint, load_checkpoint
from lbsgd.record.run_record import read_run


@dataclass(frozen=True)
class Resumed:
    """A checkpoint to go on from. `state` is on rank 0 only; `about` is what was saved about its run."""

    path: Path
    about: dict[str, Any]
    state: State | None

    @property
    def run_folder(self) -> Path | None:
        """The run that the checkpoint belongs to; None when it lies elsewhere."""
        folder = self.path.absolute().parent.parent
        return folder if (folder / "run.json").exists() else None

    @property
    def is_newest(self) -> bool:
        """Whether its run has no later checkpoint."""
        return self.run_folder is not None and find_checkpoint(self.run_folder) == self.path.absolute()

    def recorded_data(self) -> str:
        """The data set that the run was trained on.

        Raises UsageError when the checkpoint lies outside of its run's folder.
        """
        if self.run_folder is None:
            raise UsageError(f"{self.path} lies outside of a run; say with --data which data set it is for")
        return str(read_run(self.run_folder)["data"])

    def hand_over(self, backend: Backend) -> None:
        """Put the state into rank 0's replica; the others get it by broadcast."""
        if self.state is not None:
            backend.import_state(self.state)

    def accumulate_on(self, ranks: int) -> int:
        """Virtual workers on each of `ranks` ranks, so that there are as many as the run had.

        Raises UsageError when they cannot be shared out.
        """
        virtual_workers: int = self.about["virtual_workers"]
        accumulate, rest = divmod(virtual_workers, ranks)
        if rest:
            raise UsageError(
                f"the run has {virtual_workers} virtual workers, which do not divide over "
                f"{ranks} ranks; start a number of ranks that divides them"
            )
        return accumulate

    def first_iteration(self, plan: Plan, classes: tuple[str, ...]) -> int:
        """The iteration to begin with, after checking that the checkpoint is of this model, these classes and this batch.

        Raises CheckpointError, UsageError.
        """
        about, where = self.about, self.path
        if about["recipe"]["model"] != plan.recipe.model:
            raise CheckpointError(f"{where} is of {about['recipe']['model']}, not of {plan.recipe.model}")
        if tuple(about["classes"]) != tuple(classes):
            raise CheckpointError(
                f"{where} was trained on {len(about['classes'])} classes ({', '.join(about['classes'][:3])}, ...), "
                f"the data has {len(classes)} ({', '.join(classes[:3])}, ...)"
            )
        for name, here in (("global_batch", plan.global_batch), ("samples", plan.samples)):
            if about[name] != here:
                raise UsageError(
                    f"{where} was made with {name} {about[name]}, this start has {here}: its position would mean other "
                    "samples. Give the same data, --batch-per-gpu and ranks x --accumulate"
                )
        return int(about["iteration"])


def read_checkpoint(world: World, path: Path) -> Resumed:
    """The checkpoint at `path`, or the newest of the run at `path`, read once and told to all ranks. Collective.

    Raises CheckpointError on all ranks.
    """

    def read() -> tuple[Path, State, dict[str, Any]] | None:
        if not world.is_first:
            return None
        found = find_checkpoint(path)
        return found, *load_checkpoint(found)

    result = together(world, read)
    found, about = world.broadcast((result[0], result[2]) if result else None)
    return Resumed(found, about, result[1] if result else None)
