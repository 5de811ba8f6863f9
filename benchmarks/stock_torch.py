"""The loop a PyTorch user writes after Horovod's documentation, and nothing of lbsgd.

One batch is drawn once and stays where it is: no loader, no pixels to normalise, no loss to read in between.
"""

import horovod.torch as hvd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEARNING_RATE = 0.00625  # of 16 images, by the paper's rule
SGD = {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4, "fused": True}
LAYOUT = torch.channels_last
"""The faster one on a CPU, in fp32 and in bf16."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += self.shortcut(x)
        return F.relu(y, inplace=True)


class ResNet18(nn.Module):
    """ResNet-18 for photographs."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential(
            BasicBlock(64, 64, 1), BasicBlock(64, 64, 1),
            BasicBlock(64, 128, 2), BasicBlock(128, 128, 1),
            BasicBlock(128, 256, 2), BasicBlock(256, 256, 1),
            BasicBlock(256, 512, 2), BasicBlock(512, 512, 1),
        )  # fmt: skip
        self.fc = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        return self.fc(self.blocks(x).mean((2, 3)))


class Loop:
    """The stock replica of this rank."""

    def __init__(self, *, batch: int, size: int, classes: int, precision: str) -> None:
        hvd.init()
        torch.manual_seed(hvd.rank())
        torch.set_num_threads(1)
        self.autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        self.images = torch.randn(batch, 3, size, size).to(memory_format=LAYOUT)
        self.labels = torch.randint(classes, (batch,))
        self.model = ResNet18(classes)  # Horovod refuses parameters that are channels last; images may be
        sgd = torch.optim.SGD(self.model.parameters(), LEARNING_RATE, **SGD)
        self.optimizer = hvd.DistributedOptimizer(sgd, named_parameters=self.model.named_parameters())
        hvd.broadcast_parameters(self.model.state_dict(), root_rank=0)

    def take(self, steps: int) -> float:
        """Take that many steps; the loss of the last."""
        for _ in range(steps):
            self.optimizer.zero_grad()
            with self.autocast:
                loss = F.cross_entropy(self.model(self.images), self.labels)
            loss.backward()
            self.optimizer.step()
        return loss.item()

    def gradient_sizes(self) -> list[int]:
        """Numbers in each gradient."""
        return [parameter.numel() for parameter in self.model.parameters()]
