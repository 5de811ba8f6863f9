"""From what the user asked for to a run that can start: data, plan, agreement, replica, record. The same on every rank."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lbsgd.backends import ReplicaSpec, load, require
from lbsgd.backends.contract import Backend
from lbsgd.data import from_anywhere, open_dataset
from lbsgd.data.source import Dataset
from lbsgd.errors import UsageError
from lbsgd.measuring.baseline import require_comparable
from lbsgd.models import require_framework
from lbsgd.policy.plan import Plan, make_plan
from lbsgd.profiling.window import place_window
from lbsgd.ranks.agreement import in_turns, require_agreement, together
from lbsgd.ranks.world import World
from lbsgd.record import environment
from lbsgd.record.run_content import RunContent
from lbsgd.record.run_record import RunRecord
from lbsgd.record.runs_folder import new_folder
from lbsgd.training.resuming import told
from lbsgd.training.run import Request, Run
from lbsgd.training.startup import BACKEND, BROADCAST, DATA, Startup


def prepare(world: World, request: Request, startup: Startup, show_plan: Callable[[Plan], None]) -> Run | None:
    """Everything up to the first step; None when the run that is to be resumed is done. Collective; what fails on one rank
    fails on all.

    show_plan: is called on rank 0, before the framework is loaded. Raises any LbsgdError.
    """
    together(world, lambda: require_framework(request.recipe.model, request.framework))
    with startup.part(DATA, f"reading the index of {request.data}"):
        dataset = in_turns(world, lambda: open_dataset(request.data))
    plan = together(world, lambda: _plan(world, request, dataset))
    span = together(world, lambda: _span(request, plan, dataset))
    require_agreement(world, _facts_to_agree_on(request, plan, dataset, span))
    if not span and request.resume and request.resume.is_done:
        return None
    together(world, lambda: require(request.framework))  # loading takes seconds: refuse before, leaving no folder
    record = together(world, lambda: _open_record(request, plan) if world.is_first else None)
    if world.is_first:
        show_plan(plan)
    spec = ReplicaSpec(
        recipe=plan.recipe,
        classes=len(dataset.train.classes),
        world=world,
        accumulate=plan.accumulate,
        channels_last=request.channels_last,
        compile=request.compile,
        deterministic=request.deterministic,
    )
    with startup.part(BACKEND, f"loading {request.framework}"):
        backend = together(world, lambda: load(request.framework, spec))
    plan = replace(plan, recipe=backend.spec.recipe)  # with the precision that "auto" stands for
    with startup.part(BROADCAST, "sending rank 0's weights to all"):
        if resumed := request.resume:
            together(world, lambda: resumed.hand_over(backend))
        backend.broadcast()
    facts = _facts(world, request, plan, backend)
    together(world, lambda: require_comparable(request.baseline, facts) if request.baseline else None)
    changes = resumed.changes(plan, dataset) if resumed else []
    for change in changes:
        startup.say(told(change, span.start))
    together(world, lambda: record.begin(span.start, facts, changes) if record else None)
    return Run(request=request, plan=plan, dataset=dataset, backend=backend, record=record, span=span, startup=startup)


def _plan(world: World, request: Request, dataset: Dataset) -> Plan:
    accumulate = request.accumulate
    if accumulate is None and request.resume:
        accumulate = request.resume.accumulate_on(world.size)
    samples, classes = len(dataset.train), len(dataset.train.classes)
    return make_plan(request.recipe, world_size=world.size, accumulate=accumulate or 1, samples=samples, classes=classes)


def _span(request: Request, plan: Plan, dataset: Dataset) -> range:
    """The iterations that the run takes, those to profile among them."""
    start = 0
    stop = min(plan.total_iterations, request.max_steps or plan.total_iterations)
    if resume := request.resume:
        resume.require_fit(plan, dataset, accept_other_data=request.accept_other_data)
        start = resume.position
        if start > stop:
            limit = "--max-steps" if request.max_steps == stop else f"{plan.recipe.epochs} epochs"
            raise UsageError(f"{resume.path} lies beyond the end: the run would end after {stop} iterations ({limit})")
    if request.profile:
        place_window(request.profile, start, stop)
    return range(start, stop)


def _facts_to_agree_on(request: Request, plan: Plan, dataset: Dataset, span: range) -> dict[str, Any]:
    """What must be the same on all ranks."""
    return {
        "framework": request.framework,
        "recipe": plan.recipe.model_dump(mode="json"),
        "accumulate": plan.accumulate,
        "stop": span.stop,
        "compile": request.compile,
        "deterministic": request.deterministic,
        "profile": request.profile,
        "efficiency_every": request.efficiency_every,
        "versions": environment.versions(),
        "code": environment.code_digest(),
        "data": {"train": dataset.train.digest, "val": dataset.validation.digest},
    }


def _facts(world: World, request: Request, plan: Plan, backend: Backend) -> RunContent:
    """The parts of run.json that are known before the first step. Collective."""
    schedule = plan.schedule
    about = backend.environment()
    devices = world.gather(about["device"])
    return {
        "framework": backend.framework,
        "command": shlex.join(["lbsgd", *sys.argv[1:]]),
        "data": from_anywhere(request.data),
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
        "bad_samples": {"policy": str(request.bad_samples), "train": 0, "val": 0},
        "environment": environment.describe_environment(about, mpi=world.mpi, hosts=world.hosts, devices=devices),
    }


def _open_record(request: Request, plan: Plan) -> RunRecord:
    """The record of the run that is resumed where it was; else a new one.

    From an older checkpoint another run branches off: what came after it stays as it is.
    """
    resume, folder = request.resume, request.run_dir
    before = resume.run_folder if resume and resume.is_newest else None
    if before and (folder is None or folder.absolute() == before):
        return RunRecord.open(before)
    return RunRecord.create(folder or new_folder(request.runs, f"{plan.recipe.name}-{request.framework}"))
