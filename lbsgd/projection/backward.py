"""When each gradient becomes ready during backward, and how many bytes it has.

Time is the fraction of backward that is done: 0 at its start, 1 at its end.
"""

from typing import NamedTuple

from lbsgd.models.network import Network, Unit

IMAGE_SIZE = {True: 224, False: 32}
"""Pixels a side, by whether the network starts with max pooling: the ImageNet networks do."""

SLICES = 100
FRONT_LOADING = 1.5
"""Exponent of the generic profile: convolutional networks hold most parameters in the layers whose backward comes first."""


class Gradient(NamedTuple):
    """`ready`: fraction of backward after which it can be sent. `size`: bytes."""

    ready: float
    size: float


def network_profile(network: Network, bytes_per_value: int) -> list[Gradient]:
    """The gradients in the order in which backward makes them; a layer's share of the time is its share of multiplications."""
    layers = _layers(network)
    total = sum(multiplications for multiplications, _ in layers)
    gradients, done = [], 0.0
    for multiplications, sizes in reversed(layers):
        done += multiplications
        gradients += [Gradient(done / total, size * bytes_per_value) for size in reversed(sizes)]
    return gradients


def generic_profile(size: float, first_share: float, last_share: float) -> list[Gradient]:
    """Gradients of `size` bytes in all of a network of which little is known: one of `first_share`, many small ones, and one of
    `last_share`.

    The first stands for a large classifier, whose backward comes first and takes hardly any time; the last for an embedding, or
    whatever else piles up at the end.
    """
    piece = size * (1 - first_share - last_share) / SLICES
    between = [Gradient(1 - (1 - index / SLICES) ** (1 / FRONT_LOADING), piece) for index in range(1, SLICES + 1)]
    gradients = [Gradient(0.0, size * first_share), *between, Gradient(1.0, size * last_share)]
    return [gradient for gradient in gradients if gradient.size > 0]


def _layers(network: Network) -> list[tuple[int, list[int]]]:
    """Multiplications for an image, and numbers of parameters, of each layer in forward order."""
    side = IMAGE_SIZE[network.max_pool]
    layers, side = [_layer(network.stem, side)], _shrink(side, network.stem.stride)
    if network.max_pool:
        side = _shrink(side, 2)
    for block in network.blocks:
        entry = side
        for unit in block.units:
            layers.append(_layer(unit, side))
            side = _shrink(side, unit.stride)
        if block.shortcut:
            layers.append(_layer(block.shortcut, entry))
    linear = network.features * network.classes
    return [*layers, (linear, [linear, network.classes])]


def _layer(unit: Unit, side: int) -> tuple[int, list[int]]:
    weights = unit.inputs * unit.outputs * unit.kernel**2
    return weights * _shrink(side, unit.stride) ** 2, [weights, unit.outputs, unit.outputs]


def _shrink(side: int, stride: int) -> int:
    return -(-side // stride)
