"""Batch norm's running statistics when several virtual workers take turns on one network."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from lbsgd.backends.batch_norm import virtual_momentum


class SharedStatistics:
    """The running statistics of a network's batch norms, each virtual worker's batch counted by its own weight.

    The weight is applied here and not by the layers: a layer whose momentum changes is compiled anew for every value.
    """

    def __init__(self, network: nn.Module, count: int) -> None:
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        self.running = [
            statistic for norm in norms for statistic in (norm.running_mean, norm.running_var) if statistic is not None
        ]
        self._count = count
        self._before = [torch.empty_like(statistic) for statistic in self.running] if count > 1 else []
        if count > 1:
            for norm in norms:
                norm.momentum = 1.0  # leaves the batch's own statistics in the buffers

    @contextmanager
    def turn(self, index: int) -> Iterator[None]:
        """Forward and backward of virtual worker `index` (0-based), whose statistics join the running ones at the end.

        Not before backward: it refuses to run where what forward saw was changed.
        """
        if not self._before:
            yield
            return
        torch._foreach_copy_(self._before, self.running)
        yield
        torch._foreach_lerp_(self._before, self.running, virtual_momentum(index, self._count))
        torch._foreach_copy_(self.running, self._before)
