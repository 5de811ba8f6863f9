"""A described network as a torch module whose state dict has torchvision's names."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lbsgd.backends.torch.batch_norm import GroupedBatchNorm
from lbsgd.models.network import Block, Network, Unit


class Residual(nn.Module):
    """relu(units(x) + shortcut(x))."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.depth = len(block.units)
        for index, unit in enumerate(block.units, start=1):
            self.add_module(f"conv{index}", convolution(unit))
            self.add_module(f"bn{index}", GroupedBatchNorm(unit.outputs))
        self.downsample = None
        if block.shortcut:
            self.downsample = nn.Sequential(convolution(block.shortcut), GroupedBatchNorm(block.shortcut.outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for index in range(1, self.depth + 1):
            y = self.get_submodule(f"bn{index}")(self.get_submodule(f"conv{index}")(y))
            if index < self.depth:
                y = torch.relu_(y)
        y += x if self.downsample is None else self.downsample(x)
        return torch.relu_(y)


class ResidualNetwork(nn.Module):
    """Stem, stages of residual blocks, mean over the image, linear layer: logits float [batch, classes]."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.conv1 = convolution(network.stem)
        self.bn1 = GroupedBatchNorm(network.stem.outputs)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if network.max_pool else nn.Identity()
        stages: dict[str, list[Block]] = {}
        for block in network.blocks:
            stages.setdefault(block.name.partition(".")[0], []).append(block)
        self.stem: Callable[[Tensor], Tensor] = self._stem
        self.stages = list(stages)
        for name, blocks in stages.items():
            self.add_module(name, nn.Sequential(*(Residual(block) for block in blocks)))
        self.fc = nn.Linear(network.features, network.classes)

    def compile_parts(self) -> None:
        """Compile the stem and each stage by itself, forward and backward."""
        self.stem = torch.compile(self._stem, dynamic=False)
        for stage in self.stages:
            self.get_submodule(stage).compile(dynamic=False)

    def _stem(self, x: Tensor) -> Tensor:
        return self.pool(torch.relu_(self.bn1(self.conv1(x))))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return self.fc(x.mean((2, 3)))


def convolution(unit: Unit) -> nn.Conv2d:
    """The unit's convolution; its weights are set from arrays later."""
    return nn.Conv2d(unit.inputs, unit.outputs, unit.kernel, unit.stride, unit.padding, bias=False)
