"""What a network is made of, for any framework: its units in order and its parameters by canonical name.

Names, shapes and layout are torchvision's (convolutions OIHW, linear layers out x in), so a checkpoint is a torchvision
state dict.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Role = Literal["convolution", "linear", "linear bias", "batch norm scale", "last batch norm scale", "batch norm shift"]


@dataclass(frozen=True)
class Parameter:
    """One trained array. `role` decides how it starts and whether weight decay applies."""

    shape: tuple[int, ...]
    role: Role

    @property
    def size(self) -> int:
        count = 1
        for length in self.shape:
            count *= length
        return count

    @property
    def decays(self) -> bool:
        """Weight decay applies to everything but batch norm's gamma and beta (paper, section 5.1)."""
        return "batch norm" not in self.role

    @property
    def adapts(self) -> bool:
        """LARS adapts the rate of, and decays, weights alone: neither gamma and beta nor biases (MLPerf's reference)."""
        return self.role in ("convolution", "linear")


@dataclass(frozen=True)
class Unit:
    """A convolution without bias and the batch norm behind it; padding keeps the size (before the stride)."""

    convolution: str
    batch_norm: str
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1

    @property
    def padding(self) -> int:
        return self.kernel // 2


@dataclass(frozen=True)
class Block:
    """A residual block: relu(units(x) + shortcut(x)), relu between the units; without `shortcut` x is added as it is."""

    name: str
    units: tuple[Unit, ...]
    shortcut: Unit | None


@dataclass(frozen=True)
class Network:
    """A residual network: stem, blocks, global average pooling, one linear layer `fc`.

    max_pool: whether a 3x3 max pooling of stride 2 follows the stem.
    """

    name: str
    classes: int
    stem: Unit
    max_pool: bool
    blocks: tuple[Block, ...]

    @property
    def features(self) -> int:
        """Length of the vector that the linear layer sees."""
        return self.blocks[-1].units[-1].outputs

    @cached_property
    def batch_norms(self) -> dict[str, int]:
        """Channels of each batch norm, by name, in forward order."""
        units = [self.stem]
        for block in self.blocks:
            units += [*block.units, *([block.shortcut] if block.shortcut else [])]
        return {unit.batch_norm: unit.outputs for unit in units}

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The trained arrays by canonical name, in torchvision's order."""
        parameters = _unit_parameters(self.stem)
        for block in self.blocks:
            for unit in block.units:
                parameters |= _unit_parameters(unit, last=unit is block.units[-1])
            if block.shortcut:
                parameters |= _unit_parameters(block.shortcut)
        parameters["fc.weight"] = Parameter((self.classes, self.features), "linear")
        parameters["fc.bias"] = Parameter((self.classes,), "linear bias")
        return parameters


def _unit_parameters(unit: Unit, *, last: bool = False) -> dict[str, Parameter]:
    return {
        f"{unit.convolution}.weight": Parameter((unit.outputs, unit.inputs, unit.kernel, unit.kernel), "convolution"),
        f"{unit.batch_norm}.weight": Parameter((unit.outputs,), "last batch norm scale" if last else "batch norm scale"),
        f"{unit.batch_norm}.bias": Parameter((unit.outputs,), "batch norm shift"),
    }
