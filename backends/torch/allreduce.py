"""Averages gradients over the ranks while backward still runs."""

import horovod.torch as hvd
from torch import Tensor, nn


class GradientAllreduce:
    """Starts a gradient's allreduce the moment backward has finished it; Horovod fuses what is ready together.

    horovod's DistributedOptimizer does the same but cannot wait for the end of backward, as a measured step must.
    """

    def __init__(self, network: nn.Module | None) -> None:
        """network: None where there are no other ranks."""
        self.armed = False
        self._handles: list[int] = []
        self._parameters = {n: p for n, p in network.named_parameters() if p.requires_grad} if network else {}
        for name, parameter in self._parameters.items():
            parameter.register_post_accumulate_grad_hook(lambda p, name=name: self._start_when_armed(name, p))

    def start(self) -> None:
        """Start all of them, the last parameter's first, as backward finishes them."""
        for name, parameter in reversed(self._parameters.items()):
            self._start(name, parameter)

    def _start_when_armed(self, name: str, parameter: Tensor) -> None:
        if self.armed:
            self._start(name, parameter)

    def _start(self, name: str, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self._handles.append(hvd.allreduce_async_(contiguous_view(parameter.grad), name=f"gradient.{name}", op=hvd.Average))

    def wait(self) -> None:
        """Return when every gradient started since the last call holds its mean over all ranks."""
        for handle in self._handles:
            hvd.synchronize(handle)
        self._handles.clear()


def contiguous_view(tensor: Tensor) -> Tensor:
    """The same memory seen in an order that is contiguous, as Horovod requires (channels-last arrays are not, as NCHW)."""
    return tensor if tensor.is_contiguous() else tensor.permute(0, 2, 3, 1)
