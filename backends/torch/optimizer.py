"""SGD over the network's parameters as they lie in memory."""

import torch
from torch import Tensor, nn

from lbsgd.backends.contract import ReplicaSpec
from lbsgd.backends.torch.allreduce import contiguous_view


class Optimizer:
    """torch's fused SGD in the form of eq. 9, velocities at zero; no weight decay on normalisation layers.

    The fused kernel for CPUs copies what is not contiguous at every step, and channels-last weights are not. It is given views
    of them that are, which doubles its speed (benchmarks/LOG.md).
    """

    def __init__(self, network: nn.Module, spec: ReplicaSpec) -> None:
        self.parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.velocity = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self._views = {name: nn.Parameter(contiguous_view(p.detach())) for name, p in self.parameters.items()}
        exempt = normalisation_parameters(network)
        settings = spec.recipe.optimizer
        decayed = [self._views[name] for name, p in self.parameters.items() if p not in exempt]
        others = [self._views[name] for name, p in self.parameters.items() if p in exempt]
        self.sgd = torch.optim.SGD(
            [
                {"params": decayed, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=0.0,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            fused=True,
        )
        for name, view in self._views.items():
            self.sgd.state[view]["momentum_buffer"] = contiguous_view(self.velocity[name])

    def step(self, learning_rate: float, scaler: torch.amp.GradScaler) -> None:
        """Update the parameters by their gradients, and drop these."""
        for group in self.sgd.param_groups:
            group["lr"] = learning_rate
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                self._views[name].grad = contiguous_view(parameter.grad)
        scaler.step(self.sgd)
        scaler.update()
        self.sgd.zero_grad()
        for parameter in self.parameters.values():
            parameter.grad = None


def normalisation_parameters(network: nn.Module) -> set[Tensor]:
    """The scales and shifts of normalisation layers."""
    return {
        parameter
        for module in network.modules()
        if isinstance(module, (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm))
        for parameter in module.parameters(recurse=False)
    }
