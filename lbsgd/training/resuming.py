"""Resuming a run from one of its checkpoints."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lbsgd.backends.contract import Backend
from lbsgd.data.source import Dataset
from lbsgd.errors import CheckpointError, UsageError
from lbsgd.models.state import State
from lbsgd.policy.plan import Plan, make_plan
from lbsgd.policy.recipe import Recipe
from lbsgd.policy.schedule import Schedule
from lbsgd.ranks.agreement import together
from lbsgd.ranks.world import World
from lbsgd.record.checkpoint import find_checkpoint, load_checkpoint
from lbsgd.record.run_content import RecipeChange
from lbsgd.record.run_record import flatten, read_metrics, read_run
from lbsgd.record.runs_folder import RUN_FILE, find_recorded

SCHEDULE_KEYS = ("epochs", "learning_rate.", "warmup.", "decay.")
"""Those that matter to the past only as far as they change its learning rates."""

COMPARED_RATES = 10_000
"""Iterations of the past, at most, whose learning rates are compared."""


@dataclass(frozen=True)
class Resumed:
    """A checkpoint to go on from. `state` is on rank 0 only; `about` is what was saved about its run.

    is_newest: whether it belongs to a run that has no later checkpoint. is_done: whether that run ended as it should.
    evaluated: whether the run has an evaluation of this checkpoint.
    """

    path: Path
    about: dict[str, Any]
    state: State | None
    is_newest: bool
    is_done: bool
    evaluated: bool

    @property
    def run_folder(self) -> Path | None:
        """The run that the checkpoint belongs to; None when it lies elsewhere."""
        folder = self.path.absolute().parent.parent
        return folder if (folder / "run.json").exists() else None

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

    @property
    def position(self) -> int:
        """The iteration that comes next."""
        return int(self.about["iteration"])

    def require_fit(self, plan: Plan, dataset: Dataset, *, accept_other_data: bool) -> None:
        """Refuse what would falsify the run: another model, other data, another batch or another seed.

        Raises CheckpointError, UsageError.
        """
        about, where, classes = self.about, self.path, dataset.train.classes
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
        if about["recipe"]["seed"] != plan.recipe.seed:
            raise UsageError(
                f"{where} was trained with seed {about['recipe']['seed']}, this start has {plan.recipe.seed}: some "
                "images would come twice in an epoch and others not at all. Leave --seed out to resume"
            )
        if not accept_other_data and (other := self._other_splits(dataset)):
            raise UsageError(
                f"{where} was trained on other data: the names, sizes or labels of the {' and '.join(other)} images differ. "
                "Give the data of the run, or go on with these by --accept-other-data"
            )

    def _other_splits(self, dataset: Dataset) -> list[str]:
        here = {"training": dataset.train.digest, "validation": dataset.validation.digest}
        before = self.about.get("data")  # older checkpoints do not say
        there = {"training": before["train"], "validation": before["val"]} if before else here
        return [split for split in here if here[split] != there[split]]

    def changes(self, plan: Plan, dataset: Dataset) -> list[RecipeChange]:
        """In what this start differs from the attempt that made the checkpoint, key by key."""
        before, after = flatten(self.about["recipe"]), flatten(plan.recipe.model_dump(mode="json"))
        differing = [key for key in {**before, **after} if key != "name" and before.get(key) != after.get(key)]
        same_rates = self._has_rates_of(plan) if differing else True
        found: list[RecipeChange] = [
            {
                "key": key,
                "before": before.get(key),
                "after": after.get(key),
                "past": self.position > 0 and not (key.startswith(SCHEDULE_KEYS) and same_rates),
            }
            for key in differing
        ]
        if others := self._other_splits(dataset):
            found.append(
                {"key": "data", "before": "of the checkpoint", "after": f"other {' and '.join(others)} images", "past": True}
            )
        return found

    def _has_rates_of(self, plan: Plan) -> bool:
        """Whether the learning rates up to here are those that `plan` has."""
        old = self._schedule(plan)
        distance = max(1, self.position // COMPARED_RATES)
        return all(old.lr(iteration) == plan.schedule.lr(iteration) for iteration in range(0, self.position, distance))

    def _schedule(self, plan: Plan) -> Schedule:
        recipe = Recipe.model_validate(self.about["recipe"])
        workers = plan.global_batch // recipe.batch_per_worker
        return make_plan(recipe, world_size=workers, samples=plan.samples, classes=len(self.about["classes"])).schedule


def told(change: RecipeChange, position: int) -> str:
    """A line about a change, at the iteration that a run is resumed at."""
    key, before, after = change["key"], change["before"], change["after"]
    if change["past"]:
        return (
            f"warning: {key} is {after} from iteration {position} on; it was {before} before, which the run's result holds too"
        )
    return f"{key} is {after}; it was {before}"


def find_resumed(name: str, runs: Path) -> Path:
    """What --resume names: a checkpoint or a run by its path, or a run by its name in `runs`; "latest" is the last started.

    Raises UsageError when there is none.
    """
    path = Path(name)
    return path if path.exists() else find_recorded(name, runs, RUN_FILE)


def read_checkpoint(world: World, path: Path) -> Resumed:
    """The checkpoint at `path`, or the newest of the run at `path`, read once and told to all ranks. Collective.

    Raises CheckpointError on all ranks, and UsageError when the run that it belongs to cannot be read.
    """

    def read() -> Resumed | None:
        if not world.is_first:
            return None
        found = find_checkpoint(path)
        state, about = load_checkpoint(found)
        run = found.absolute().parent.parent
        if not (run / "run.json").exists():
            return Resumed(found, about, state, is_newest=False, is_done=False, evaluated=False)
        last = about["iteration"] - 1
        return Resumed(
            found,
            about,
            state,
            is_newest=find_checkpoint(run) == found.absolute(),
            is_done=read_run(run)["status"] == "done",
            evaluated=any(line["kind"] == "eval" and line["step"] == last for line in read_metrics(run)),
        )

    result = together(world, read)
    received = world.broadcast(result and replace(result, state=None))
    return result or received
