"""Networks have torchvision's names and shapes, and start as the paper says."""

import json
from pathlib import Path

import numpy as np
import pytest

from lbsgd.errors import UsageError
from lbsgd.models import MODELS, describe
from lbsgd.models.initialization import initial_arrays

# Names and shapes of torchvision 0.29.2's state dicts, in its order.
TORCHVISION = json.loads((Path(__file__).parent / "facts" / "torchvision_state_dicts.json").read_text())


@pytest.mark.parametrize("name", TORCHVISION)
def test_state_dict_is_torchvisions_name_for_name(name):
    arrays = initial_arrays(describe(name, 1000), seed=0)
    assert {key: list(array.shape) for key, array in arrays.items()} == TORCHVISION[name]


@pytest.mark.parametrize("name", TORCHVISION)
def test_torch_network_is_torchvisions_name_for_name_in_order(name):
    from lbsgd.backends.torch.network import ResidualNetwork

    state = ResidualNetwork(describe(name, 1000)).state_dict()
    assert [(key, list(tensor.shape)) for key, tensor in state.items()] == list(
        (key, shape) for key, shape in TORCHVISION[name].items()
    )


# Published parameter counts for 1000 classes: torchvision's documentation.
@pytest.mark.parametrize(
    "name, parameters",
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
    ],
)
def test_parameter_counts(name, parameters):
    assert sum(p.size for p in describe(name, 1000).parameters.values()) == parameters


def test_bottleneck_stride_sits_in_the_3x3_convolution():
    strides = {u.convolution: u.stride for b in describe("resnet50", 10).blocks for u in b.units if u.stride != 1}
    assert strides == {"layer2.0.conv2": 2, "layer3.0.conv2": 2, "layer4.0.conv2": 2}


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20"])
def test_last_gamma_of_each_block_is_zero_and_the_others_one(name):
    network = describe(name, 10)
    arrays = initial_arrays(network, seed=1)
    last = {block.units[-1].batch_norm for block in network.blocks}
    for norm in network.batch_norms:
        assert (arrays[f"{norm}.weight"] == (0 if norm in last else 1)).all()
        assert not arrays[f"{norm}.bias"].any()


def test_weights_are_drawn_as_the_paper_says():
    arrays = initial_arrays(describe("resnet50", 1000), seed=2)
    assert arrays["fc.weight"].std() == pytest.approx(0.01, rel=0.01)
    assert not arrays["fc.bias"].any()
    convolution = arrays["layer4.0.conv2.weight"]
    assert convolution.std() == pytest.approx(np.sqrt(2 / (512 * 9)), rel=0.01)


def test_weights_depend_on_the_seed_and_on_nothing_else():
    network = describe("resnet20", 10)
    first, again, other = (initial_arrays(network, seed)["conv1.weight"] for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_only_batch_norm_escapes_weight_decay():
    spared = {name for name, p in describe("resnet18", 10).parameters.items() if not p.decays}
    norms = describe("resnet18", 10).batch_norms
    assert spared == {f"{norm}.{part}" for norm in norms for part in ("weight", "bias")}


def test_unknown_model_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="did you mean 'resnet50'"):
        describe("resnet-50", 10)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_described(name):
    assert describe(name, 7).parameters["fc.weight"].shape[0] == 7
