"""The loop on the reference backend, on ranks that are threads: what is promised of every run, without MPI."""

import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lbsgd.backends.reference.backend import ReferenceBackend
from lbsgd.data.bad_samples import BadSamplePolicy
from lbsgd.errors import Interrupted, NotFinite, UsageError
from lbsgd.policy.recipe import load_recipe
from lbsgd.ranks.world import World
from lbsgd.record.checkpoint import list_checkpoints, load_checkpoint
from lbsgd.record.run_record import read_metrics, read_run
from lbsgd.training import loop, saving
from lbsgd.training.journal import open_journal
from lbsgd.training.preparation import prepare
from lbsgd.training.resuming import read_checkpoint
from lbsgd.training.run import Request, Run
from lbsgd.training.startup import Startup

from .doubles import alone_world, on_ranks
from .run_samples import without_times

EPOCH, EPOCHS = 4, 3
"""32 images: 4 iterations of 2 virtual workers with 4 images each."""
DATA = "synthetic:train=32,val=13,classes=3,size=4"
NOT_TOLD = SimpleNamespace(exit_signal=0)


def request(folder: Path, world: World, **options) -> Request:
    values = ["model=reference:two-layer", "batch_per_worker=4", "images.size=4", f"epochs={EPOCHS}"]
    recipe = load_recipe("demo", [*values, *options.pop("overrides", ())])
    chosen = {"accumulate": 2 // world.size, "run_dir": folder, "efficiency_every": 0, "data_threads": 1} | options
    return Request(framework="reference", data=DATA, recipe=recipe, bad_samples=BadSamplePolicy(replace=False), **chosen)


def take(run: Run, signals=NOT_TOLD):
    with open_journal(run) as journal:
        return loop.take_run(run, signals, journal)


def start(world: World, folder: Path | None, **options) -> Run | None:
    return prepare(world, request(folder, world, **options), Startup(), lambda _: None)


def train(world: World, folder: Path, signals=NOT_TOLD, **options):
    return take(start(world, folder, **options), signals)


def resume(folder: Path, world: World | None = None, **options) -> Run | None:
    world = world or alone_world()
    options = {"resume": read_checkpoint(world, folder), "accumulate": None, "run_dir": None} | options
    return start(world, options.pop("run_dir"), **options)


def lines(folder: Path, kind: str) -> list[dict]:
    return [line for line in read_metrics(folder) if line["kind"] == kind]


def losses(folder: Path) -> list[float]:
    steps = lines(folder, "step")
    assert [line["step"] for line in steps] == list(range(len(steps)))
    return [line["loss"] for line in steps]


def checkpoints(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("iteration-")) for path in list_checkpoints(folder / "checkpoints")]


class Told:
    """A rank that gets a signal before it asks for the count-th time."""

    def __init__(self, number: int, count: int) -> None:
        self.number, self.left = number, count

    @property
    def exit_signal(self) -> int:
        self.left -= 1
        return self.number if self.left <= 0 else 0


def test_every_epoch_is_evaluated_and_saved_once_and_in_this_order(tmp_path, monkeypatch):
    calls = []
    for name in ("train_step", "average_batch_norm", "evaluate", "export_state"):
        whole = getattr(ReferenceBackend, name)
        spied = lambda self, *a, name=name, whole=whole, **k: (calls.append(name), whole(self, *a, **k))[1]  # noqa: E731
        monkeypatch.setattr(ReferenceBackend, name, spied)
    train(alone_world(), tmp_path / "run")
    # 13 validation images are 4 batches of 4; batch norm is averaged before anybody looks at it
    assert calls == (["train_step"] * EPOCH + ["average_batch_norm"] + ["evaluate"] * 4 + ["export_state"]) * EPOCHS
    assert checkpoints(tmp_path / "run") == [EPOCH * number for number in range(1, EPOCHS + 1)]
    evaluations = lines(tmp_path / "run", "eval")
    assert [(line["step"], line["epoch"]) for line in evaluations] == [(3, 1.0), (7, 2.0), (11, 3.0)]
    assert {line["samples"] for line in evaluations} == {13}


def test_the_record_tells_the_run(tmp_path):
    evaluation = train(alone_world(), tmp_path / "run")
    record = read_run(tmp_path / "run")
    assert (record["status"], record["error"], record["framework"]) == ("done", None, "reference")
    assert record["world"] | {"hosts": []} == {
        "size": 1, "local_size": 1, "hosts": [], "launcher": "none", "accumulate": 2, "virtual_workers": 2,
    }  # fmt: skip
    assert record["final"]["top1_error"] == evaluation.top1_error == lines(tmp_path / "run", "eval")[-1]["top1_error"]
    assert record["final"]["epoch"] == EPOCHS
    errors = [line["top1_error"] for line in lines(tmp_path / "run", "eval")]
    assert record["final"]["top1_error_median_of_final_epochs"] == np.median(errors)
    assert record["bad_samples"] == {"policy": "fail", "train": 0, "val": 0}
    assert record["throughput"]["images_per_second"] > 0
    assert record["scaling"]["method"] == "measured-steps"
    assert (record["scaling"]["efficiency"], record["time_split"]["communication"]) == (None, 0.0)
    assert sum(record["time_split"].values()) == pytest.approx(1)
    assert [(attempt["status"], attempt["start_iteration"]) for attempt in record["attempts"]] == [("done", 0)]


def test_measuring_leaves_no_trace_in_what_is_computed(tmp_path):
    for folder, every in (("measured", 4), ("plain", 0)):
        on_ranks(2, lambda world, folder=folder, every=every: train(world, tmp_path / folder, efficiency_every=every))
    assert [line["step"] for line in lines(tmp_path / "measured", "efficiency")] == [6, 10]
    assert lines(tmp_path / "plain", "efficiency") == []
    assert losses(tmp_path / "measured") == losses(tmp_path / "plain")


def test_two_ranks_record_the_losses_of_one_with_two_virtual_workers(tmp_path):
    train(alone_world(), tmp_path / "one")
    first, other = on_ranks(2, lambda world: train(world, tmp_path / "two"))
    assert first == other
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-12)
    assert read_run(tmp_path / "two")["world"]["size"] == 2


@pytest.mark.parametrize("teller", [0, 1])
def test_a_signal_on_any_rank_stops_all_after_the_same_iteration_with_the_state_saved(tmp_path, teller):
    folder = tmp_path / "run"

    def be_rank(world: World):
        return train(world, folder, Told(15, 3) if world.rank == teller else NOT_TOLD)

    stopped = on_ranks(2, be_rank)
    assert [(type(one), one.exit_code) for one in stopped] == [(Interrupted, 128 + 15)] * 2
    [position] = checkpoints(folder)
    assert len(losses(folder)) == position < EPOCH * EPOCHS
    assert f"after iteration {position - 1}" in str(stopped[0])
    assert str(folder) in str(stopped[0])
    record = read_run(folder)
    assert (record["status"], record["error"]) == ("interrupted", str(stopped[0]))


def test_nobody_leaves_before_the_state_is_saved(tmp_path, monkeypatch):
    """A rank that leaves takes the others along."""
    saved = threading.Event()

    def slowly(*arguments, **options):
        time.sleep(0.1)
        path = saving_checkpoint(*arguments, **options)
        saved.set()
        return path

    saving_checkpoint = saving.save_checkpoint
    monkeypatch.setattr(saving, "save_checkpoint", slowly)

    def be_rank(world: World) -> bool:
        with pytest.raises(Interrupted):
            train(world, tmp_path / "run", Told(2, 2))
        return saved.is_set()

    assert on_ranks(2, be_rank) == [True, True]


def test_what_is_saved_at_a_stop_has_averaged_batch_norm(tmp_path):
    def be_rank(world: World) -> np.ndarray:
        run = start(world, tmp_path / "run")
        with pytest.raises(Interrupted):
            take(run, Told(15, 2))
        return run.backend.export_state().model["bn.running_mean"]

    one, other = on_ranks(2, be_rank)
    [checkpoint] = list_checkpoints(tmp_path / "run" / "checkpoints")
    state, _ = load_checkpoint(checkpoint)
    np.testing.assert_array_equal(state.model["bn.running_mean"], one)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("count", [1, 3, 4, 6])
def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(tmp_path, count):
    train(alone_world(), tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(alone_world(), tmp_path / "parted", Told(15, count))
    take(resume(tmp_path / "parted"))
    assert losses(tmp_path / "parted") == losses(tmp_path / "whole")
    newest = (list_checkpoints(tmp_path / name / "checkpoints")[-1] for name in ("whole", "parted"))
    (expected, _), (found, _) = map(load_checkpoint, newest)
    for name in expected.model:
        np.testing.assert_array_equal(found.model[name], expected.model[name], err_msg=name)
    record = read_run(tmp_path / "parted")
    assert record["status"] == "done"
    assert [attempt["status"] for attempt in record["attempts"]] == ["interrupted", "done"]


def test_a_run_that_is_done_has_nothing_to_do_and_stays_as_it_is(tmp_path):
    train(alone_world(), tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert resume(tmp_path / "run") is None
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_loss_that_is_not_finite_ends_all_ranks_and_saves_nothing(tmp_path, ranks):
    def be_rank(world: World):
        return train(world, tmp_path / "run", overrides=["learning_rate.reference=1e300", "warmup.kind=none"])

    ended = on_ranks(ranks, be_rank)
    assert [type(one) for one in ended] == [NotFinite] * ranks
    assert [one.exit_code for one in ended] == [144] * ranks
    assert "from iteration" in str(ended[0])
    assert checkpoints(tmp_path / "run") == []
    assert read_run(tmp_path / "run")["status"] == "failed"


def test_ranks_that_were_not_started_alike_end_before_the_first_step(tmp_path):
    ended = on_ranks(2, lambda world: train(world, tmp_path / "run", max_steps=5 + world.rank))
    assert "stop is 5 on rank 0" in str(ended[0])
    assert "but 6 on rank 1" in str(ended[0])
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path):
    train(alone_world(), tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(UsageError, match="already holds a run"):
        train(alone_world(), tmp_path / "run")
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_max_steps_ends_the_run_in_mid_epoch_with_an_evaluation(tmp_path):
    train(alone_world(), tmp_path / "run", max_steps=6)
    assert len(losses(tmp_path / "run")) == 6
    assert checkpoints(tmp_path / "run") == [4, 6]
    assert [line["epoch"] for line in lines(tmp_path / "run", "eval")] == [1.0, 1.5]


def test_an_error_of_one_rank_alone_is_recorded_by_the_one_that_ends_the_others(tmp_path, monkeypatch):
    """Its journal leaves the record as it is: lbsgd.ranks.failure writes there."""

    def broken(self, *_, **__):
        raise RuntimeError("no memory")

    monkeypatch.setattr(ReferenceBackend, "evaluate", broken)
    with pytest.raises(RuntimeError):
        train(alone_world(), tmp_path / "run")
    assert read_run(tmp_path / "run")["status"] == "running"


def test_a_profile_has_the_steps_that_were_asked_for(tmp_path):
    train(alone_world(), tmp_path / "run", profile="2:5")
    assert read_run(tmp_path / "run")["profile"] == {"first": 2, "stop": 5, "trace": "profile/trace.json.gz"}
    assert (tmp_path / "run" / "profile" / "trace.json.gz").exists()


@pytest.mark.parametrize("count", [2, 4, 5])
def test_two_attempts_leave_the_record_of_one(tmp_path, count):
    train(alone_world(), tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(alone_world(), tmp_path / "parted", Told(15, count))
    take(resume(tmp_path / "parted"))
    assert without_times(tmp_path / "parted") == without_times(tmp_path / "whole")
    assert [line for line in lines(tmp_path / "parted", "eval")] == [line for line in lines(tmp_path / "whole", "eval")]


def test_the_figures_of_all_attempts_are_those_of_the_run_and_each_attempt_keeps_its_own(tmp_path):
    with pytest.raises(Interrupted):
        train(alone_world(), tmp_path / "run", Told(15, 5))
    [first] = read_run(tmp_path / "run")["attempts"]
    assert first["throughput"]["steps_timed"] > 0
    assert read_run(tmp_path / "run")["throughput"] == first["throughput"]
    take(resume(tmp_path / "run"))
    record = read_run(tmp_path / "run")
    assert record["attempts"][0]["throughput"] == first["throughput"]
    timed = [attempt["throughput"]["steps_timed"] for attempt in record["attempts"]]
    assert record["throughput"]["steps_timed"] == sum(timed)
    for attempt in record["attempts"]:
        assert attempt["world"]["size"] == attempt["world_size"] == 1
        assert attempt["environment"]["backend"]
        assert attempt["command"].startswith("lbsgd")
        assert attempt["startup"]["total"] > 0


def test_other_ranks_are_another_measurement(tmp_path):
    with pytest.raises(Interrupted):
        train(alone_world(), tmp_path / "run", Told(15, 5))
    on_ranks(2, lambda world: take(resume(tmp_path / "run", world)))
    record = read_run(tmp_path / "run")
    assert record["throughput"] == record["attempts"][1]["throughput"]
    assert record["throughput"]["steps_timed"] < record["attempts"][0]["throughput"]["steps_timed"] + 6
    assert losses(tmp_path / "run") != []


def test_a_run_that_was_stopped_before_an_evaluation_gets_it_when_it_goes_on(tmp_path, monkeypatch):
    """Its last step was the epoch's last one."""
    train(alone_world(), tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(alone_world(), tmp_path / "parted", Told(15, 4))
    take(resume(tmp_path / "parted"))
    epochs = [line["epoch"] for line in lines(tmp_path / "parted", "eval")]
    assert epochs == [line["epoch"] for line in lines(tmp_path / "whole", "eval")]


@pytest.mark.parametrize("limit", [{"max_steps": 7}, {"overrides": ["epochs=1"]}], ids=["max_steps", "epochs"])
def test_a_checkpoint_beyond_the_end_is_refused_and_nothing_changes(tmp_path, limit):
    with pytest.raises(Interrupted):
        train(alone_world(), tmp_path / "run", Told(15, 5))
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(UsageError, match="lies beyond the end: the run would end after [47] iterations"):
        resume(tmp_path / "run", **limit)
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_another_seed_is_refused(tmp_path):
    train(alone_world(), tmp_path / "run", max_steps=5)
    with pytest.raises(UsageError, match="was trained with seed 0, this start has 7"):
        resume(tmp_path / "run", overrides=["seed=7"])


OTHER_DATA = "synthetic:train=32,val=14,classes=3,size=4"
"""Of one more validation image."""


def test_other_data_is_refused_unless_it_is_accepted_which_is_kept(tmp_path, monkeypatch):
    train(alone_world(), tmp_path / "run", max_steps=5)
    monkeypatch.setattr(sys.modules[__name__], "DATA", OTHER_DATA)
    with pytest.raises(UsageError, match="the names, sizes or labels of the validation images differ"):
        resume(tmp_path / "run")
    take(resume(tmp_path / "run", accept_other_data=True))
    [change] = read_run(tmp_path / "run")["attempts"][1]["recipe_changes"]
    assert (change["key"], change["past"]) == ("data", True)


@pytest.mark.parametrize(
    ("override", "past"),
    [
        ("epochs=5", False),
        ("optimizer.weight_decay=0.5", True),
        ("learning_rate.reference=0.5", True),
        ("images.padding=2", True),
    ],
)
def test_a_recipe_that_changes_is_told_and_kept_with_what_it_was(tmp_path, override, past):
    train(alone_world(), tmp_path / "run", max_steps=5)
    run = resume(tmp_path / "run", overrides=[override])
    [change] = read_run(tmp_path / "run")["attempts"][1]["recipe_changes"]
    assert (change["key"], change["past"]) == (override.partition("=")[0], past)
    assert change["before"] != change["after"]
    assert run is not None


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("broken", ["fc.weight", "bn.running_var"])
def test_a_state_that_is_not_finite_is_never_saved_whatever_the_loss_was(tmp_path, monkeypatch, broken, ranks):
    """In the second epoch; the checkpoint of the first stays, and is named."""
    whole = ReferenceBackend.export_state
    saved = []

    def export(self):
        state = whole(self)
        saved.append(None)
        if len(saved) == 2:
            state.model[broken].flat[-1] = np.inf
        return state

    monkeypatch.setattr(ReferenceBackend, "export_state", export)
    ended = on_ranks(ranks, lambda world: train(world, tmp_path / "run"))
    assert [type(one) for one in ended] == [NotFinite] * ranks
    assert f"after iteration 7 {broken} holds values that are not finite; it is not saved" in str(ended[0])
    assert str(ended[0]).endswith("iteration-00000004")
    assert checkpoints(tmp_path / "run") == [4]
    assert read_run(tmp_path / "run")["status"] == "failed"


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_evaluation_whose_loss_is_not_finite_is_a_failure(tmp_path, monkeypatch, ranks):
    monkeypatch.setattr(ReferenceBackend, "evaluate", lambda self, images, labels, valid: (0, float("nan")))
    ended = on_ranks(ranks, lambda world: train(world, tmp_path / "run"))
    assert [type(one) for one in ended] == [NotFinite] * ranks
    assert "the loss on the validation images is not finite" in str(ended[0])
    assert "There is no checkpoint yet" in str(ended[0])
    assert checkpoints(tmp_path / "run") == []


def test_a_branch_leaves_the_run_that_it_comes_from_as_it_is(tmp_path):
    train(alone_world(), tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    oldest = list_checkpoints(tmp_path / "run" / "checkpoints")[0]
    take(resume(oldest, run_dir=tmp_path / "branch"))
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    assert read_run(tmp_path / "branch")["attempts"][0]["start_iteration"] == 4
