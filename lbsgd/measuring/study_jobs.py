"""Starting one size of a study as a job, and being one rank of it."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from lbsgd.backends import ReplicaSpec, load
from lbsgd.data import open_dataset
from lbsgd.data.batch import Reading, Share
from lbsgd.data.loader import training_batches
from lbsgd.errors import Interrupted, LbsgdError
from lbsgd.launch import mpirun
from lbsgd.launch.hosts import Allocation
from lbsgd.launch.job import Job
from lbsgd.launch.mpi_flavour import find_flavour
from lbsgd.measuring.study import Result, Settings, read_study
from lbsgd.measuring.study_ranks import Rounds, measure
from lbsgd.policy.order import Order
from lbsgd.policy.plan import make_plan
from lbsgd.policy.recipe import load_recipe
from lbsgd.ranks.agreement import in_turns, require_agreement, together
from lbsgd.ranks.world import World
from lbsgd.record.environment import code_digest, describe_environment, versions


class MpirunJobs:
    """Runs the sizes of a study by mpirun. Calling it is a RunSize."""

    def __init__(self, settings: Settings, allocation: Allocation) -> None:
        self._settings, self._allocation = settings, allocation

    def __call__(self, framework: str, workers: int, folder: Path) -> Result:
        name = f"{framework}-{workers:04d}"
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        output, log = folder / f"{name}.json", folder / "logs" / f"{name}.log"
        output.unlink(missing_ok=True)
        environment = dict(os.environ)
        if self._settings.threads_per_worker:
            environment["OMP_NUM_THREADS"] = str(self._settings.threads_per_worker)
        command = (mpirun.console_script(), "bench", "rank", f"--framework={framework}", f"--output={output.absolute()}")
        job = Job(
            np=workers,
            command=(*command, str(folder.absolute())),
            hosts=self._allocation.hosts(workers),
            interface=self._settings.interface,
            oversubscribe=self._settings.oversubscribed,
            flavour=find_flavour(),
        )
        with log.open("wb") as file:
            code = mpirun.start(job, environment=environment, output=file)
        if code in (130, 143):
            raise Interrupted("the study was stopped; the same command resumes it", code - 128)
        if code == 0 and output.exists():
            content = json.loads(output.read_text())
            output.unlink()
            return Result(content["repeats"], content["environment"], None)
        return Result([], None, f"exit code {code}: {cause(log.read_text(errors='replace'))} (see {log})")


def cause(log: str) -> str:
    """The line of a job's output that says best why it failed: the first error of lbsgd's own, else the last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip() and not line.startswith("---")]
    errors = [line for line in lines if line.startswith("Error: ")]
    return (errors or lines[-1:] or ["no output"])[0].removeprefix("Error: ")


def keep_to_own_cores(local_rank: int, count: int) -> None:
    """Bind this process to its share of the host's cores, before it has threads of its own.

    Without GPUs a worker that is alone would else use the cores that others have in larger sizes: for reading images, for
    Horovod's thread. More workers than cores share them.
    """
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[(local_rank * count + place) % len(cores)] for place in range(count)})


def measure_as_rank(world: World, study: Path, framework: str) -> dict[str, Any]:
    """Be one rank of a size of the study in a folder that rank 0 sees: what goes to the job's output. Collective.

    Raises any LbsgdError.
    """
    settings = world.broadcast(together(world, lambda: read_study(study).content["settings"] if world.is_first else None))
    if settings["threads_per_worker"]:
        keep_to_own_cores(world.local_rank, settings["threads_per_worker"])
    dataset = in_turns(world, lambda: open_dataset(settings["data"]))
    samples, classes = len(dataset.train), len(dataset.train.classes)
    recipe = load_recipe(settings["recipe"], [])
    plan = together(world, lambda: make_plan(recipe, world_size=world.size, samples=samples, classes=classes))
    require_agreement(world, {"versions": versions(), "code": code_digest(), "data": dataset.train.digest})
    spec = ReplicaSpec(recipe=plan.recipe, classes=classes, world=world)
    backend = together(world, lambda: load(framework, spec))
    backend.broadcast()
    batches = training_batches(
        dataset.train,
        plan.recipe.images,
        Order(plan.recipe.seed, samples, plan.global_batch),
        Share(world.rank, world.size),
        range(1 << 40),
        Reading(spec.threads),
        allocate=backend.allocate,
    )
    rounds = Rounds(warm_up=settings["warm_up"], steps=settings["steps"], repeats=settings["repeats"])
    try:
        repeats = measure(world, backend, batches, plan.schedule.lr(0), plan.global_batch, rounds)
    except LbsgdError as error:  # of this rank alone: the others wait for it, and would wait for ever
        print(f"Error: rank {world.rank} on {socket.gethostname()}: {error}", file=sys.stderr, flush=True)
        world.abort(error.exit_code)
    finally:
        batches.close()
    about = backend.environment()
    devices = world.gather(about["device"])
    return {"repeats": repeats, "environment": describe_environment(about, mpi=world.mpi, hosts=world.hosts, devices=devices)}
