"""Residual networks: ResNet-18 to 152 for photographs, and the CIFAR-style ones for small images.

The large ones are the paper's variant (fb.resnet.torch): a bottleneck's stride sits in its 3x3 convolution. The small ones
follow He et al. 2016, section 4.2 (depth 6n + 2, widths 16, 32, 64), with a 1x1 convolution where a shortcut changes shape.
"""

from lbsgd.models.network import Block, Network, Unit

IMAGENET_BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
BOTTLENECKED = {"resnet50", "resnet101", "resnet152"}
SMALL_BLOCKS = {"resnet8": 1, "resnet20": 3, "resnet56": 9}


def imagenet_resnet(name: str, classes: int) -> Network:
    """A ResNet for images of about 224 x 224."""
    stem = Unit("conv1", "bn1", 3, 64, kernel=7, stride=2)
    widths = (64, 128, 256, 512)
    return Network(name, classes, stem, True, _blocks(64, widths, IMAGENET_BLOCKS[name], name in BOTTLENECKED))


def small_resnet(name: str, classes: int) -> Network:
    """A ResNet for images of about 32 x 32 or less."""
    stem = Unit("conv1", "bn1", 3, 16, kernel=3)
    return Network(name, classes, stem, False, _blocks(16, (16, 32, 64), (SMALL_BLOCKS[name],) * 3, False))


def _blocks(inputs: int, widths: tuple[int, ...], counts: tuple[int, ...], bottleneck: bool) -> tuple[Block, ...]:
    blocks = []
    for stage, (width, count) in enumerate(zip(widths, counts, strict=True), start=1):
        for index in range(count):
            stride = 2 if stage > 1 and index == 0 else 1
            block = _block(f"layer{stage}.{index}", inputs, width, stride, bottleneck)
            inputs = block.units[-1].outputs
            blocks.append(block)
    return tuple(blocks)


def _block(name: str, inputs: int, width: int, stride: int, bottleneck: bool) -> Block:
    if bottleneck:
        shapes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)]
    else:
        shapes = [(inputs, width, 3, stride), (width, width, 3, 1)]
    units = tuple(Unit(f"{name}.conv{i}", f"{name}.bn{i}", *shape) for i, shape in enumerate(shapes, start=1))
    outputs = units[-1].outputs
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = Unit(f"{name}.downsample.0", f"{name}.downsample.1", inputs, outputs, 1, stride)
    return Block(name, units, shortcut)
