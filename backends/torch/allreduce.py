"""Averages gradients over the ranks while backward still runs."""

import horovod.torch as hvd
from torch import Tensor, nn


class GradientAllreduce:
    """Starts a gradient's allreduce the moment backward has finished it; Horovod fuses what is ready together.

    horovod's DistributedOptimizer does the same but cannot leave a step's communication out, which timing a worker on its
    own needs.
    """

    def __init__(self, network: nn.Module | None) -> None:
        """network: None where there are no other ranks."""
        self.armed = False
        self._handles: list[int] = []
        for name, parameter in network.named_parameters() if network else ():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(lambda p, name=name: self._start(name, p))

    def _start(self, name: str, parameter: Tensor) -> None:
        if self.armed and parameter.grad is not None:
            self._handles.append(hvd.allreduce_async_(contiguous_view(parameter.grad), name=f"gradient.{name}", op=hvd.Average))

    def wait(self) -> None:
        """Return when every gradient started since the last call holds its mean over all ranks."""
        for handle in self._handles:
            hvd.synchronize(handle)
        self._handles.clear()


def average_all(tensors: dict[str, Tensor]) -> None:
    """Replace each tensor by its mean over all ranks; the last parameter's first, as backward finishes them."""
    handles = [
        hvd.allreduce_async_(contiguous_view(tensor), name=f"all.{name}", op=hvd.Average)
        for name, tensor in reversed(tensors.items())
    ]
    for handle in handles:
        hvd.synchronize(handle)


def contiguous_view(tensor: Tensor) -> Tensor:
    """The same memory seen in an order that is contiguous, as Horovod requires (channels-last arrays are not, as NCHW)."""
    return tensor if tensor.is_contiguous() else tensor.permute(0, 2, 3, 1)
