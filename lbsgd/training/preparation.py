"""From what the user asked for to a run that can start: data, plan, agreement, replica, record. The same on every rank."""

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from lbsgd.backends import Job, load, require
from lbsgd.backends.contract import Backend
from lbsgd.data import open_dataset
from lbsgd.data.bad_samples import BadSamplePolicy
from lbsgd.data.batch import Reading
from lbsgd.errors import CheckpointError, UsageError
from lbsgd.models.state import State
from lbsgd.policy.plan import Plan, make_plan
from lbsgd.policy.recipe import Recipe
from lbsgd.profiling.window import place_window
from lbsgd.ranks.agreement import in_turns, require_agreement, together
from lbsgd.ranks.world import World
from lbsgd.record import environment
from lbsgd.record.checkpoint import find_checkpoint, load_checkpoint
from lbsgd.record.run_record import RunRecord, new_folder, read_run
from lbsgd.training.loop import Run


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for. None: the default, or when resuming what the run had."""

    framework: str
    data: str
    recipe: Recipe
    accumulate: int | None
    max_steps: int | None
    channels_last: bool
    compile: str
    deterministic: bool
    profile: str | None
    run_dir: Path | None
    runs: Path
    resume: "Resumed | None"
    data_threads: int | None
    read_timeout: float
    bad_samples: BadSamplePolicy
    efficiency_steps: int
    keep_checkpoints: int
    log_to: tuple[str, ...]


@dataclass(frozen=True)
class Resumed:
    """A checkpoint to go on from. `state` is on rank 0 only; `about` is what was saved about its run."""

    path: Path
    about: dict
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
        return read_run(self.run_folder)["data"]


def read_checkpoint(world: World, path: Path) -> Resumed:
    """The checkpoint at `path`, or the newest of the run at `path`, read once and told to all ranks. Collective.

    Raises CheckpointError on all ranks.
    """

    def read() -> tuple[Path, State, dict] | None:
        if not world.is_first:
            return None
        found = find_checkpoint(path)
        return found, *load_checkpoint(found)

    result = together(world, read)
    found, about = world.broadcast((result[0], result[2]) if result else None)
    return Resumed(found, about, result[1] if result else None)


def prepare(world: World, request: Request) -> Run:
    """Everything up to the first step. Collective; what fails on one rank fails on all.

    Raises any LbsgdError.
    """
    dataset = in_turns(world, lambda: open_dataset(request.data))
    plan = together(world, lambda: _plan(world, request, len(dataset.train), len(dataset.train.classes)))
    start = together(world, lambda: _start(request, plan, dataset.train.classes))
    stop = min(plan.total_iterations, request.max_steps or plan.total_iterations)
    profile = together(world, lambda: place_window(request.profile, start, stop) if request.profile else None)
    require_agreement(
        world,
        {
            "framework": request.framework,
            "recipe": plan.recipe.model_dump(mode="json"),
            "accumulate": plan.accumulate,
            "stop": stop,
            "compile": request.compile,
            "deterministic": request.deterministic,
            "profile": request.profile,
            "efficiency_steps": request.efficiency_steps,
            "versions": environment.versions(),
            "code": environment.code_digest(),
            "data": {"train": dataset.train.digest, "val": dataset.validation.digest},
        },
    )
    together(world, lambda: require(request.framework))  # loading takes seconds: refuse before, leaving no folder
    record = together(world, lambda: _open_record(request, plan) if world.is_first else None)
    job = Job(
        recipe=plan.recipe,
        classes=len(dataset.train.classes),
        world=world,
        accumulate=plan.accumulate,
        channels_last=request.channels_last,
        compile=request.compile,
        deterministic=request.deterministic,
    )
    backend = together(world, lambda: load(request.framework, job))
    plan = replace(plan, recipe=backend.job.recipe)  # with the precision that "auto" stands for
    if request.resume:
        together(world, lambda: backend.import_state(request.resume.state) if world.is_first else None)
    backend.broadcast()
    facts = _facts(world, request, plan, backend)
    together(world, lambda: record.begin(start, facts) if record else None)
    return Run(
        plan=plan,
        dataset=dataset,
        world=world,
        backend=backend,
        record=record,
        start=start,
        stop=stop,
        profile=profile,
        reading=Reading(request.data_threads or job.threads, request.read_timeout, request.bad_samples),
        efficiency_steps=request.efficiency_steps,
        keep_checkpoints=request.keep_checkpoints,
        log_to=request.log_to,
    )


def _plan(world: World, request: Request, samples: int, classes: int) -> Plan:
    accumulate = request.accumulate
    if accumulate is None and request.resume:
        accumulate, rest = divmod(request.resume.about["virtual_workers"], world.size)
        if rest:
            raise UsageError(
                f"the run has {request.resume.about['virtual_workers']} virtual workers, which do not divide over "
                f"{world.size} ranks; start a number of ranks that divides them"
            )
    return make_plan(request.recipe, world_size=world.size, accumulate=accumulate or 1, samples=samples, classes=classes)


def _start(request: Request, plan: Plan, classes: tuple[str, ...]) -> int:
    """The iteration to begin with, after checking that the checkpoint is of this model, these classes and this batch."""
    if request.resume is None:
        return 0
    about, where = request.resume.about, request.resume.path
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
                f"{where} was made with {name} {about[name]}, this start has {here}: its position would mean other samples. "
                "Give the same data, --batch-per-gpu and ranks x --accumulate"
            )
    return about["iteration"]


def _facts(world: World, request: Request, plan: Plan, backend: Backend) -> dict:
    """The parts of run.json that are known before the first step. Collective."""
    schedule = plan.schedule
    about = backend.environment()
    where = {"mpi": world.mpi, "hosts": world.hosts, "devices": world.gather(about["device"])}
    return {
        "framework": backend.framework,
        "command": shlex.join(["lbsgd", *sys.argv[1:]]),
        "data": _from_anywhere(request.data),
        "world": {
            "size": world.size,
            "local_size": world.local_size,
            "hosts": world.hosts,
            "launcher": world.launcher,
            "accumulate": plan.accumulate,
            "virtual_workers": plan.k,
        },
        "recipe": plan.recipe.model_dump(mode="json"),
        "schedule": {
            "reference_lr": schedule.reference_lr,
            "peak_lr": schedule.peak_lr,
            "global_batch": plan.global_batch,
            "warmup_iterations": schedule.warmup_iterations,
            "iterations_per_epoch": schedule.iterations_per_epoch,
            "total_iterations": schedule.total_iterations,
        },
        "throughput": None,
        "time_split": None,
        "scaling": None,
        "scaling_baseline": None,
        "final": None,
        "environment": environment.describe_environment(about, **where),
    }


def _from_anywhere(data: str) -> str:
    """The name of the data set as it holds in any folder that the run may be resumed or evaluated in."""
    return data if data.partition(":")[0] == "synthetic" else str(Path(data).absolute())


def _open_record(request: Request, plan: Plan) -> RunRecord:
    """The record of the run to go on with, when it goes on where it was; else a new one.

    From an older checkpoint another run branches off: what came after it stays as it is.
    """
    resume, folder = request.resume, request.run_dir
    if resume and resume.is_newest and (folder is None or folder.absolute() == resume.run_folder):
        return RunRecord.open(resume.run_folder)
    return RunRecord.create(folder or new_folder(request.runs, f"{plan.recipe.name}-{request.framework}"))
