"""The loop a PyTorch user writes after PyTorch's documentation: DistributedDataParallel over gloo, and nothing of lbsgd.

One rank has nobody to talk to: it trains the plain module, which is faster.
"""

import os

import torch
import torch.nn.functional as F
from stock_torch import LAYOUT, LEARNING_RATE, SGD, ResNet18
from torch import distributed
from torch.nn.parallel import DistributedDataParallel


class Loop:
    """The replica of this rank."""

    def __init__(self, *, rank: int, ranks: int, batch: int, size: int, classes: int, precision: str) -> None:
        torch.manual_seed(rank)
        torch.set_num_threads(1)
        self.autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        self.images = torch.randn(batch, 3, size, size).to(memory_format=LAYOUT)
        self.labels = torch.randint(classes, (batch,))
        self.model = ResNet18(classes).to(memory_format=LAYOUT)
        if ranks > 1:
            join(rank, ranks)
            # A worker keeps its own batch norm statistics, as the other contestants do.
            self.model = DistributedDataParallel(self.model, broadcast_buffers=False, gradient_as_bucket_view=True)
        self.optimizer = torch.optim.SGD(self.model.parameters(), LEARNING_RATE, **SGD)

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


def join(rank: int, ranks: int) -> None:
    """Meet the other ranks, once in a process."""
    if not distributed.is_initialized():
        address = os.environ["STEP_ADDRESSES"].split(",")[0]
        distributed.init_process_group("gloo", init_method=f"tcp://{address}", rank=rank, world_size=ranks)
