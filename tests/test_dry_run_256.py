"""The paper's 256 ranks in one process: order, agreement, evaluation and record, by the code that real ranks run.

A rank is a thread, and what joins them a double of mpi4py's communicator: Open MPI would not start 256 ranks on two cores
in the time of a test. tests/parallel/test_many_ranks.py has 32 real ones.
"""

import json
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest

from lbsgd.backends.phases import Phases
from lbsgd.data import open_dataset
from lbsgd.data.bad_samples import FAIL, BadSamples
from lbsgd.data.batch import Reading, Share, in_ordinary_memory
from lbsgd.data.loader import training_batches
from lbsgd.errors import DataError, EnvironmentNotReady
from lbsgd.measuring.efficiency import is_measured
from lbsgd.measuring.steps import Step
from lbsgd.policy.order import Order
from lbsgd.policy.plan import make_plan
from lbsgd.policy.recipe import load_recipe
from lbsgd.ranks.agreement import FailedElsewhere, in_turns, require_agreement, together
from lbsgd.ranks.world import World
from lbsgd.record.loggers import Loggers
from lbsgd.record.run_record import RunRecord, read_run
from lbsgd.training.evaluation import Evaluation, evaluate
from lbsgd.training.journal import Journal
from lbsgd.training.meeting import SyncPoint
from lbsgd.training.progress import PlainReporter

from .doubles import alone_world, on_ranks
from .run_samples import facts

IMAGENET = 1281167
RANKS, HOSTS, PER_HOST = 256, 32, 8


def host_of(rank: int) -> str:
    return f"node{rank // PER_HOST:02}"


@pytest.fixture
def on_all_ranks(monkeypatch) -> Callable:
    """on_all_ranks(action): what action(world) returned or raised on each of the 256 ranks."""
    monkeypatch.setattr(socket, "gethostname", lambda: host_of(int(threading.current_thread().name)))
    return lambda action: on_ranks(RANKS, action, local_size=PER_HOST)


def test_plan_has_the_papers_numbers(lbsgd):
    result = lbsgd("plan", "--recipe", "goyal2017", "--np", RANKS, "--samples", IMAGENET, "--json")
    plan = json.loads(result.stdout)
    assert (plan["k"], plan["n"], plan["global_batch"]) == (256, 32, 8192)
    assert (plan["reference_lr"], plan["peak_lr"], plan["warmup"]) == (0.1, 3.2, "gradual")
    assert plan["warmup_iterations"] == 5 * plan["iterations_per_epoch"] == 5 * 156
    assert [point["epoch"] for point in plan["decay"]["points"]] == [30, 60, 80]
    assert plan["warnings"] == []


@pytest.mark.parametrize("epoch", [0, 89])
def test_an_epoch_of_imagenet_is_dealt_out_once_and_in_the_order_of_one_rank(epoch):
    order = Order(seed=0, samples=IMAGENET, global_batch=8192)
    taken = []
    for iteration in range(epoch * 156, (epoch + 1) * 156):
        shares = [order.share(iteration, rank, RANKS) for rank in range(RANKS)]
        assert {len(share) for share in shares} == {32}
        np.testing.assert_array_equal(np.concatenate(shares), order.share(iteration, 0, 1))
        taken += shares
    assert len(np.unique(np.concatenate(taken))) == 156 * 8192 == IMAGENET - 3215


def test_256_ranks_read_the_images_that_one_rank_reads(digits):
    train, images = open_dataset(str(digits)).train, load_recipe("demo").images
    order = Order(seed=0, samples=len(train), global_batch=4 * RANKS)

    def only_batch(rank: int, world_size: int):
        how = Share(rank, world_size), range(1, 2), Reading(threads=1)
        with closing(training_batches(train, images, order, *how)) as batches:
            [batch] = batches
            return batch.images.copy(), batch.labels

    shares = [only_batch(rank, RANKS) for rank in range(RANKS)]
    pixels, labels = only_batch(0, 1)
    np.testing.assert_array_equal(np.concatenate([share[0] for share in shares]), pixels)
    np.testing.assert_array_equal(np.concatenate([share[1] for share in shares]), labels)


class CallsAllOdd:
    """Of a backend what an evaluation needs: every image with an odd label is wrong, and its loss is its label."""

    allocate = staticmethod(in_ordinary_memory)

    def evaluate(self, images: np.ndarray, labels: np.ndarray, valid: int) -> tuple[int, float]:
        return int((labels[:valid] % 2).sum()), float(labels[:valid].sum())


def test_256_ranks_count_every_validation_image_once(on_all_ranks, digits):
    images = open_dataset(str(digits)).validation

    def count(world: World) -> Evaluation:
        return evaluate(CallsAllOdd(), images, load_recipe("demo"), world, Reading(threads=1), BadSamples(FAIL))

    alone = count(alone_world())
    assert alone.samples == len(images) > RANKS
    assert on_all_ranks(count) == [alone] * RANKS


def test_ranks_that_agree_go_on(on_all_ranks):
    facts = {"recipe": load_recipe("goyal2017").model_dump(mode="json"), "data": {"train": "0f"}}
    assert on_all_ranks(lambda world: require_agreement(world, facts)) == [None] * RANKS


@pytest.mark.parametrize("odd", [1, 137, 255])
def test_the_one_rank_of_256_that_differs_is_named_with_its_host(on_all_ranks, odd):
    first, *others = on_all_ranks(
        lambda world: require_agreement(world, {"data": {"train": "0f" if world.rank != odd else "a7"}})
    )
    assert isinstance(first, EnvironmentNotReady)
    difference = f"data.train is '0f' on rank 0 (node00) but 'a7' on rank {odd} ({host_of(odd)})"
    assert str(first) == f"the ranks disagree: {difference}; start all ranks alike"
    assert {(type(error), error.exit_code) for error in others} == {(FailedElsewhere, 3)}


def test_one_rank_without_the_data_ends_all_and_alone_speaks(on_all_ranks):
    def read(world: World) -> None:
        if world.rank == 200:
            raise DataError("/data has no train folder")

    results = on_all_ranks(lambda world: together(world, lambda: read(world)))
    assert str(results[200]) == "rank 200 on node25: /data has no train folder"
    assert {error.exit_code for error in results} == {4}
    assert [rank for rank, error in enumerate(results) if not isinstance(error, FailedElsewhere)] == [200]


def test_a_rank_of_each_host_goes_before_its_others(on_all_ranks):
    done: list[int] = []
    on_all_ranks(lambda world: in_turns(world, lambda: done.append(world.rank)))
    assert done[0] == 0
    assert sorted(done[1:HOSTS]) == list(range(PER_HOST, RANKS, PER_HOST))
    assert sorted(done) == list(range(RANKS))


def timed(world: World, folder) -> None:
    """A run's end as training has it: 60 steps of 280 ms, 300 ms on one slow host; 14 ms of waiting for data in each.

    Alone, each worker would compute for 240 ms.
    """
    busy = 0.286 if host_of(world.rank) == "node31" else 0.266
    sync = SyncPoint(world, SimpleNamespace(exit_signal=0), BadSamples(FAIL))
    for number in range(60):
        phases = Phases(staging=0.0, waiting=0.0, communication=0.050) if is_measured(number, 50) else None
        seconds = 0.014 + (0.290 if phases else busy)
        sync.add(Step(number, 3.2, loss=6.9, seconds=seconds, data_seconds=0.014, other_seconds=0.0, phases=phases))
    meeting = sync.meet(ends_stretch=True)
    if world.is_first:
        record = RunRecord.create(folder)
        plan = make_plan(load_recipe("goyal2017"), world_size=world.size, samples=IMAGENET)
        ranks = {"size": world.size, "local_size": world.local_size, "hosts": world.hosts, "accumulate": 1}
        recipe = plan.recipe.model_dump(mode="json")
        record.begin(0, facts(world=ranks, recipe=recipe, schedule={"global_batch": plan.global_batch}))
        journal = Journal(run_of(plan), record, Loggers([]), PlainReporter())
        journal.steps(meeting)
        record.end("done")


def run_of(plan) -> SimpleNamespace:
    """Of a run what its journal needs."""
    startup = SimpleNamespace(done=dict)
    return SimpleNamespace(plan=plan, epoch_at=lambda iteration: iteration / 156, span=range(60), startup=startup)


def test_the_record_of_256_ranks(on_all_ranks, tmp_path):
    assert on_all_ranks(lambda world: timed(world, tmp_path / "run")) == [None] * RANKS
    run = read_run(tmp_path / "run")
    world = run["world"]
    assert (world["size"], world["local_size"]) == (256, 8)
    assert world["hosts"] == [f"node{number:02}" for number in range(32)]
    assert run["attempts"][0]["world_size"] == 256
    ordinary, measured = (31 * 0.280 + 0.300) / 32, 0.304
    mean = (51 * ordinary + 5 * measured) / 56  # the first 3 steps and the first measured one do not count
    assert run["throughput"]["images_per_second"] == pytest.approx(8192 / mean)
    assert run["throughput"]["images_per_second_per_worker"] == pytest.approx(32 / mean)
    scaling = run["scaling"]
    assert (scaling["workers"], scaling["baseline_workers"], scaling["method"]) == (256, 1, "measured-steps")
    assert scaling["pairs"] == 5
    assert scaling["efficiency"] == pytest.approx((31 * 0.240 / 0.266 + 0.240 / 0.286) / 32)
    assert sum(run["time_split"].values()) == pytest.approx(1)
    assert run["time_split"]["data"] == pytest.approx(0.014 / mean)
