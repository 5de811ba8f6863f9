"""Batch norm of several virtual workers: each by its own statistics, in turns or side by side, on one running average."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lbsgd.backends.batch_norm import virtual_momentum


class GroupedBatchNorm(nn.BatchNorm2d):
    """Batch norm of batches in which `groups` virtual workers follow one another: each is normalised by itself.

    A worker's channels stand beside the other workers' channels in one kernel. The running statistics get the mean of theirs.
    """

    groups = 1

    def forward(self, x: Tensor) -> Tensor:
        if self.groups == 1 or not self.training:
            return super().forward(x)
        groups, channels = self.groups, self.num_features
        side_by_side = Beside.apply(x, groups)
        mean = torch.zeros(groups * channels, dtype=self.weight.dtype, device=x.device)
        variance = torch.zeros_like(mean)
        weight, bias = self.weight.repeat(groups), self.bias.repeat(groups)
        normal = functional.batch_norm(side_by_side, mean, variance, weight, bias, training=True, momentum=1.0, eps=self.eps)
        self._track(mean.view(groups, channels).mean(0), variance.view(groups, channels).mean(0))
        return Behind.apply(normal, groups)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Let statistics, the means over the virtual workers, join the running ones."""
        buffers = dict(self.named_buffers())
        for name, batch in (("running_mean", mean), ("running_var", variance)):
            buffers[name].lerp_(batch, self.momentum or 0.0)
        buffers["num_batches_tracked"].add_(self.groups)


def beside(x: Tensor, groups: int) -> Tensor:
    """[groups * n, c, h, w] as [n, groups * c, h, w], in the same memory format."""
    count, channels, height, width = x.shape
    out = empty_as((count // groups, groups * channels, height, width), x)
    out.unflatten(1, (groups, channels)).copy_(x.unflatten(0, (groups, count // groups)).transpose(0, 1))
    return out


def behind(x: Tensor, groups: int) -> Tensor:
    """The inverse of `beside`."""
    count, channels, height, width = x.shape
    out = empty_as((groups * count, channels // groups, height, width), x)
    out.unflatten(0, (groups, count)).copy_(x.unflatten(1, (groups, channels // groups)).transpose(0, 1))
    return out


def empty_as(shape: tuple[int, ...], x: Tensor) -> Tensor:
    """An uninitialised tensor of that shape, in the memory format of x and else like it."""
    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)


class Beside(torch.autograd.Function):
    """`beside`, whose gradient keeps its memory format: autograd's own would be strided, and slow to go on with."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, groups: int) -> Tensor:
        ctx.groups = groups
        return beside(x, groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return behind(gradient, ctx.groups), None


class Behind(torch.autograd.Function):
    """`behind`, likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, groups: int) -> Tensor:
        ctx.groups = groups
        return behind(x, groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return beside(gradient, ctx.groups), None


class SharedStatistics:
    """The running statistics of a network's batch norms, each pass of virtual workers counted by its own weight.

    The weight is applied here and not by the layers: a layer whose momentum changes is compiled anew for every value.
    together: virtual workers in a pass. passes: of a step.
    """

    def __init__(self, network: nn.Module, together: int, passes: int) -> None:
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        self.running = [
            statistic for norm in norms for statistic in (norm.running_mean, norm.running_var) if statistic is not None
        ]
        self._passes = passes
        self._before = [torch.empty_like(statistic) for statistic in self.running] if passes > 1 else []
        for norm in norms:
            if isinstance(norm, GroupedBatchNorm):
                norm.groups = together
            if passes > 1:
                norm.momentum = 1.0  # leaves the batch's own statistics in the buffers

    @contextmanager
    def turn(self, index: int) -> Iterator[None]:
        """Forward and backward of pass `index` (0-based), whose statistics join the running ones at the end.

        Not before backward: it refuses to run where what forward saw was changed.
        """
        if not self._before:
            yield
            return
        torch._foreach_copy_(self._before, self.running)
        yield
        torch._foreach_lerp_(self._before, self.running, virtual_momentum(index, self._passes))
        torch._foreach_copy_(self.running, self._before)
