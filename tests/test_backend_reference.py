"""The reference backend keeps the contract of backends, on ranks that are threads: no MPI, no framework, milliseconds."""

import numpy as np
import pytest

from lbsgd.backends import ReplicaSpec, load
from lbsgd.backends.phases import PhaseClock, Phases
from lbsgd.data.batch import Batch
from lbsgd.errors import CheckpointError, UsageError
from lbsgd.measuring.steps import take_steps
from lbsgd.models.state import State
from lbsgd.policy.recipe import load_recipe
from lbsgd.ranks.world import World

from .doubles import alone_world, on_ranks

MODELS = ("reference:softmax", "reference:two-layer")
N, SIZE, CLASSES = 6, 4, 3


def images_of(samples: range) -> tuple[np.ndarray, np.ndarray]:
    """Images of noise, brighter the higher their label."""
    random = np.random.default_rng(0)
    labels = np.arange(64) % CLASSES
    images = random.integers(0, 150, (64, SIZE, SIZE, 3)) + 50 * labels[:, None, None, None]
    return images[samples].astype(np.uint8), labels[samples].astype(np.int64)


def backend_on(world: World, model: str = MODELS[1], accumulate: int = 1, classes: int = CLASSES, *overrides: str):
    values = [f"model={model}", f"batch_per_worker={N}", f"images.size={SIZE}", *overrides]
    backend = load(
        "reference", ReplicaSpec(recipe=load_recipe("demo", values), classes=classes, world=world, accumulate=accumulate)
    )
    backend.broadcast()
    return backend


def losses_of(backend, count: int = 10, *, measured: bool = False) -> list[float]:
    """Of steps that each take the same global batch, of which the rank takes its share."""
    own = N * backend.spec.accumulate
    images, labels = images_of(range(backend.spec.world.rank * own, (backend.spec.world.rank + 1) * own))
    clocks = [PhaseClock(backend.spec.world.barrier) if measured else None for _ in range(count)]
    return [backend.loss_value(backend.train_step(images, labels, 0.05, clock)) for clock in clocks]


@pytest.mark.parametrize("model", MODELS)
def test_the_gradient_is_the_slope_of_the_loss(model):
    network = backend_on(alone_world(), model).network
    random = np.random.default_rng(1)
    x, targets = random.normal(size=(N, SIZE**2 * 3)), np.eye(CLASSES)[random.integers(0, CLASSES, N)]
    _, gradient = network.loss_and_gradient(x, targets, momentum=0.1)
    for name, array in network.parameters.items():
        for place in list(np.ndindex(array.shape))[:: max(1, array.size // 7)]:
            losses = []
            for nudge in (1e-6, -2e-6):
                array[place] += nudge
                losses.append(network.loss_and_gradient(x, targets, momentum=0.1)[0])
            array[place] += 1e-6
            assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(gradient[name][place], abs=1e-7), (name, place)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_virtual_workers_train_alike_on_any_number_of_ranks(model, ranks):
    def train(world: World) -> tuple[list[float], State]:
        backend = backend_on(world, model, 4 // world.size)
        losses = losses_of(backend)
        backend.average_batch_norm()
        return losses, backend.export_state()

    [(alone, expected)] = on_ranks(1, train)
    results = on_ranks(ranks, train)
    np.testing.assert_allclose(np.mean([losses for losses, _ in results], axis=0), alone, rtol=1e-12)
    assert alone[-1] < 0.9 * alone[0]
    for _, state in results:
        for found, wanted in ((state.model, expected.model), (state.velocity, expected.velocity)):
            for name in wanted:
                np.testing.assert_allclose(found[name], wanted[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_broadcast_unites_replicas_that_differ():
    def train(world: World) -> list[np.ndarray]:
        backend = backend_on(world)
        if not world.is_first:
            own = backend_on(alone_world())
            losses_of(own, 2)
            backend.import_state(own.export_state())
        apart = backend.export_state().model["fc.weight"]
        backend.broadcast()
        return [apart, *backend.export_state().model.values(), *backend.export_state().velocity.values()]

    one, other = on_ranks(2, train)
    assert not np.array_equal(one[0], other[0])
    assert all(np.array_equal(a, b) for a, b in zip(one[1:], other[1:], strict=True))


@pytest.mark.parametrize("ranks", [1, 2])
def test_measured_steps_compute_what_ordinary_ones_do(ranks):
    def train(world: World, measured: bool) -> list[float]:
        return losses_of(backend_on(world, accumulate=2), measured=measured)

    assert on_ranks(ranks, lambda world: train(world, True)) == on_ranks(ranks, lambda world: train(world, False))


def test_measured_steps_tell_the_squared_norms_of_each_rank_s_gradient_and_of_their_mean():
    """On 2 ranks: what the parallelogram of the two gradients says, |g1 + g2|^2 + |g1 - g2|^2 = 2 |g1|^2 + 2 |g2|^2."""

    def measure(world: World) -> tuple[Phases, dict]:
        backend, clock = backend_on(world), PhaseClock(world.barrier)
        images, labels = images_of(range(N * world.rank, N * (world.rank + 1)))
        own = backend.network.loss_and_gradient(backend._pixels(images), backend._targets(labels), 0.0)[1]
        backend.train_step(images, labels, 0.05, clock)
        return clock.phases, own

    (first, one), (second, other) = on_ranks(2, measure)
    for phases, gradient in ((first, one), (second, other)):
        assert phases.worker_gradient_squared == pytest.approx(sum((array**2).sum() for array in gradient.values()))
    apart = sum(((one[name] - other[name]) ** 2).sum() for name in one)
    both = 2 * (first.worker_gradient_squared + second.worker_gradient_squared)
    assert first.gradient_squared == second.gradient_squared == pytest.approx((both - apart) / 4)


def test_running_statistics_differ_until_they_are_averaged():
    def train(world: World) -> tuple[np.ndarray, np.ndarray]:
        backend = backend_on(world)
        losses_of(backend, 2)
        before = backend.export_state().model["bn.running_mean"]
        backend.average_batch_norm()
        return before, backend.export_state().model["bn.running_mean"]

    (before, after), (other_before, other_after) = on_ranks(2, train)
    assert not np.array_equal(before, other_before)
    assert np.array_equal(after, other_after)
    np.testing.assert_allclose(after, (before + other_before) / 2)


def test_a_state_that_is_put_back_goes_on_bitwise():
    backend, other = backend_on(alone_world()), backend_on(alone_world())
    losses_of(backend, 3)
    other.import_state(backend.export_state())
    assert losses_of(other, 3) == losses_of(backend, 3)


def test_an_exported_state_is_a_copy():
    backend = backend_on(alone_world())
    state = backend.export_state()
    before = {name: array.copy() for name, array in state.model.items()}
    losses_of(backend, 1)
    assert all(np.array_equal(state.model[name], before[name]) for name in before)


def test_evaluation_counts_valid_images_only():
    backend = backend_on(alone_world())
    images, labels = images_of(range(8))
    assert backend.evaluate(images, labels, 5) == backend.evaluate(images[:5], labels[:5], 5)
    wrong, loss = backend.evaluate(images, labels, 8)
    assert 0 <= wrong <= 8
    assert loss > 0


def test_weight_decay_is_not_for_batch_norm():
    def after_a_step(decay: float) -> dict[str, np.ndarray]:
        backend = backend_on(alone_world(), MODELS[1], 1, CLASSES, f"optimizer.weight_decay={decay}")
        losses_of(backend, 1)
        return backend.export_state().model

    without, with_decay = after_a_step(0.0), after_a_step(0.1)
    same = {name for name in without if np.array_equal(without[name], with_decay[name])}
    assert same == {"bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "fc.bias"}  # the bias is 0 at first


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_lars_moves_each_layer_by_a_share_of_its_own_norm(scale):
    """Without momentum and decay, |w' - w| = rate x trust x |w|, however large the gradient is; a vector moves by its own."""
    overrides = ("optimizer.nesterov=false", "optimizer.kind=lars", "optimizer.momentum=0", "optimizer.weight_decay=0")
    backend = backend_on(alone_world(), MODELS[1], 1, CLASSES, *overrides, "optimizer.trust=0.01")
    images, labels = images_of(range(N))
    backend.network.parameters["fc.weight"] *= scale
    before = backend.export_state().model
    gradient = backend.network.loss_and_gradient(backend._pixels(images), backend._targets(labels), 0.0)[1]
    backend.train_step(images, labels, 0.5)
    after = backend.export_state().model
    for name in backend.network.parameters:
        moved = np.linalg.norm(after[name] - before[name])
        share = 0.01 * np.linalg.norm(before[name]) if before[name].ndim > 1 else np.linalg.norm(gradient[name])
        assert moved == pytest.approx(0.5 * share), name


@pytest.mark.parametrize(("most", "clipped"), [("1e-3", True), ("1e6", False)])
def test_a_gradient_is_clipped_to_its_norm_and_a_shorter_one_is_left_alone(most, clipped):
    overrides = ("optimizer.nesterov=false", "optimizer.momentum=0", "optimizer.weight_decay=0")
    moved = {}
    for clip in ((), (f"optimizer.clip_norm={most}",)):
        backend = backend_on(alone_world(), MODELS[1], 1, CLASSES, *overrides, *clip)
        before = backend.export_state().model
        backend.train_step(*images_of(range(N)), 0.5)
        after = backend.export_state().model
        moved[bool(clip)] = np.concatenate([(after[name] - before[name]).ravel() for name in backend.network.parameters])
    if clipped:
        assert np.linalg.norm(moved[True]) == pytest.approx(0.5 * float(most))
        cosine = moved[True] @ moved[False] / np.linalg.norm(moved[True]) / np.linalg.norm(moved[False])
        assert cosine == pytest.approx(1)
    else:
        assert np.array_equal(moved[True], moved[False])


def test_a_state_of_another_model_is_refused():
    backend = backend_on(alone_world())
    with pytest.raises(CheckpointError, match=r"fc.weight has shape \[3, 16\], here \[7, 16\]"):
        backend_on(alone_world(), MODELS[1], 1, 7).import_state(backend.export_state())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("timm:resnet18d", "is for --framework torch, not reference"),
        ("keras:MobileNet", "is for --framework tensorflow, not reference"),
        ("reference:transformer", "it has reference:softmax and reference:two-layer"),
        ("resnet18", "it has reference:softmax and reference:two-layer"),
    ],
)
def test_a_model_of_another_framework_is_refused_by_name(model, message):
    with pytest.raises(UsageError, match=message) as error:
        backend_on(alone_world(), model)
    assert model in str(error.value)


def test_a_precision_that_it_does_not_have_is_refused():
    with pytest.raises(UsageError, match="no precision 'bf16'; it has fp32"):
        backend_on(alone_world(), MODELS[0], 1, CLASSES, "precision=bf16")
    assert backend_on(alone_world(), MODELS[0], 1, CLASSES, "precision=auto").spec.recipe.precision == "fp32"


def test_a_wait_for_images_is_no_part_of_a_measured_step(monkeypatch):
    """On a clock that only runs while images are waited for, everything but that wait takes no time."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def slowly():
        images, labels = images_of(range(N))
        while True:
            now[0] += 0.5
            yield Batch(images, labels, N)

    steps = list(take_steps(backend_on(alone_world()), slowly(), lambda _: 0.05, range(20), lambda one: one % 2 == 0))
    assert [step.data_seconds for step in steps] == [0.5] * 20
    measured = [(one.staging, one.waiting, one.communication, one.norms) for step in steps if (one := step.phases)]
    assert measured == [(0.0, 0.0, 0.0, 0.0)] * 10
    assert [step.phases is None for step in steps] == [False, True] * 10
    assert [step.busy_seconds for step in steps] == [0.0] * 20
