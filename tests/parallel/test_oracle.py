"""Two steps of each backend against the paper's update, and LARS's, in float64 numpy.

The oracle: u = m u + (1 / kn) sum of gradients + lambda w (not for batch norm), w = w - eta (that + m u, Nesterov), the rate
outside of u (eq. 9). Its gradients are float64 ones of each virtual worker alone, its own statistics in batch norm.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from lbsgd.backends.torch.network import ResidualNetwork
from lbsgd.models import describe
from lbsgd.models.initialization import initial_arrays
from lbsgd.policy.recipe import load_recipe

from .ranks import run_program

PROGRAM = Path(__file__).with_name("take_two_steps.py")
WORKERS, BATCH, CLASSES = 4, 4, 10
# With this seed no input of a ReLU is nearer to 0 than 2.9e-6. Nearer ones may fall on different sides in float32 and
# float64, and then the gradients rightly differ by a whole pixel's share.
SEED = 9
RATES = (0.1, 0.3)  # the second larger, as in a warm-up: only eq. 9 needs no momentum correction
OVERRIDES = (f"batch_per_worker={BATCH}", "optimizer.weight_decay=0.01", "label_smoothing=0.1")


@pytest.fixture(scope="module")
def problem():
    """A start that leaves nothing at zero, and two global batches."""
    random = np.random.default_rng(SEED)
    network = describe("resnet20", CLASSES)
    model = initial_arrays(network, seed=5)
    for norm, channels in network.batch_norms.items():
        model[f"{norm}.weight"] = random.uniform(0.5, 1.5, channels).astype(np.float32)
        model[f"{norm}.bias"] = random.normal(0, 0.1, channels).astype(np.float32)
    velocity = {n: random.normal(0, 0.01, p.shape).astype(np.float32) for n, p in network.parameters.items()}
    images = random.integers(0, 256, (len(RATES), WORKERS * BATCH, 8, 8, 3), dtype=np.uint8)
    labels = random.integers(0, CLASSES, (len(RATES), WORKERS * BATCH))
    return network, model, velocity, images, labels


RECIPES = {
    "sgd": load_recipe("demo", OVERRIDES),
    "clipped": load_recipe("demo", [*OVERRIDES, "optimizer.clip_norm=0.5"]),
    "lars": load_recipe("demo", [*OVERRIDES, "optimizer.nesterov=false", "optimizer.kind=lars", "optimizer.trust=0.02"]),
}


@pytest.fixture(scope="module", params=RECIPES)
def recipe(request):
    return RECIPES[request.param]


@pytest.fixture(scope="module")
def expected(problem, recipe):
    network, model, velocity, images, labels = problem
    weights = {name: model[name].astype(np.float64) for name in network.parameters}
    u = {name: array.astype(np.float64) for name, array in velocity.items()}
    buffers = {name: array for name, array in model.items() if name not in weights}
    m, decay = recipe.optimizer.momentum, recipe.optimizer.weight_decay
    for step, rate in enumerate(RATES):
        total, statistics = {name: np.zeros_like(w) for name, w in weights.items()}, []
        for worker in range(WORKERS):
            share = slice(worker * BATCH, (worker + 1) * BATCH)
            summed, after = summed_gradients(network, weights, buffers, images[step][share], labels[step][share], recipe)
            statistics.append(after)
            for name, gradient in summed.items():
                total[name] += gradient
        buffers = {name: np.mean([s[name] for s in statistics], axis=0) for name in buffers}
        norm = np.sqrt(sum((gradient**2).sum() for gradient in total.values())) / (WORKERS * BATCH)
        if recipe.optimizer.clip_norm:
            assert norm > 2 * recipe.optimizer.clip_norm
            total = {name: gradient * recipe.optimizer.clip_norm / norm for name, gradient in total.items()}
        for name, w in weights.items():
            if recipe.optimizer.kind == "lars":
                u[name], weights[name] = lars(w, u[name], total[name] / (WORKERS * BATCH), rate, recipe.optimizer)
                continue
            g = total[name] / (WORKERS * BATCH) + (decay * w if network.parameters[name].decays else 0)
            u[name] = m * u[name] + g
            weights[name] = w - rate * (g + m * u[name])
    return weights, u, buffers


def lars(w, v, g, rate, settings):
    """MLPerf's form of You et al.: the rate inside of the velocity; vectors, which are gamma, beta and bias, not adapted."""
    if w.ndim > 1:
        norm = np.sqrt((w**2).sum())
        g, rate = (
            g + settings.weight_decay * w,
            rate * settings.trust * norm / (np.sqrt((g**2).sum()) + settings.weight_decay * norm),
        )
    v = settings.momentum * v + rate * g
    return v, w - v


def summed_gradients(network, weights, buffers, images, labels, recipe):
    """The sum of the samples' gradients in float64 at `weights`, and the running statistics afterwards."""
    module = ResidualNetwork(network).double().train()
    module.load_state_dict({name: torch.from_numpy(np.asarray(a)) for name, a in (weights | buffers).items()})
    x = (images.astype(np.float64) / 255 - recipe.images.mean) / recipe.images.std
    logits = module(torch.from_numpy(x).permute(0, 3, 1, 2))
    loss = functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum", label_smoothing=recipe.label_smoothing)
    loss.backward()
    after = {name: buffer.numpy().copy() for name, buffer in module.named_buffers()}
    return {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}, after


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_two_steps_equal_the_update(problem, recipe, expected, framework, ranks, tmp_path):
    _, model, velocity, images, labels = problem
    start = {f"model/{n}": a for n, a in model.items()} | {f"velocity/{n}": a for n, a in velocity.items()}
    np.savez(tmp_path / "start.npz", **start)
    np.savez(tmp_path / "batches.npz", images=images, labels=labels, rates=np.array(RATES))
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.model_dump(mode="json")))

    run_program(ranks, PROGRAM, framework, str(WORKERS // ranks), str(tmp_path))

    end = np.load(tmp_path / "end.npz")
    weights, u, buffers = expected
    for name, weight in weights.items():
        np.testing.assert_allclose(end[f"model/{name}"], weight, rtol=1e-6, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(end[f"velocity/{name}"], u[name], rtol=1e-5, atol=1e-5, err_msg=name)
    for name, buffer in buffers.items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(end[f"model/{name}"], buffer, rtol=1e-5, atol=1e-5, err_msg=name)
