"""The recipe's update of the network's parameters, as they lie in memory."""

from typing import Any

import torch
from torch import Tensor, nn

from lbsgd.backends.contract import ReplicaSpec
from lbsgd.backends.torch.allreduce import contiguous_view
from lbsgd.backends.torch.lars import Lars


class Optimizer:
    """torch's fused SGD in the form of eq. 9, without weight decay on normalisation layers, or LARS; velocities at zero.

    The fused kernel for CPUs copies what is not contiguous at every step, and channels-last weights are not. It is given views
    of them that are, which doubles its speed (benchmarks/LOG.md).
    """

    def __init__(self, network: nn.Module, spec: ReplicaSpec) -> None:
        self.parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.velocity = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self._views = {name: nn.Parameter(contiguous_view(p.detach())) for name, p in self.parameters.items()}
        settings = spec.recipe.optimizer
        self._clip_norm = settings.clip_norm
        exempt = normalisation_parameters(network)
        if settings.kind == "lars":
            exempt = exempt | {parameter for parameter in network.parameters() if parameter.dim() < 2}
        decayed = [self._views[name] for name, p in self.parameters.items() if p not in exempt]
        others = [self._views[name] for name, p in self.parameters.items() if p in exempt]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.rule: torch.optim.Optimizer
        if settings.kind == "lars":
            groups[0]["adapted"], groups[1]["adapted"] = True, False
            self.rule = Lars(groups, momentum=settings.momentum, trust=settings.trust, epsilon=settings.epsilon)
        else:
            self.rule = torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum, nesterov=settings.nesterov, fused=True)
        for name, view in self._views.items():
            self.rule.state[view]["momentum_buffer"] = contiguous_view(self.velocity[name])

    def step(self, learning_rate: float, scaler: torch.amp.GradScaler) -> None:
        """Update the parameters by their gradients, and drop these."""
        for group in self.rule.param_groups:
            group["lr"] = learning_rate
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                self._views[name].grad = contiguous_view(parameter.grad)
        if self._clip_norm:
            scaler.unscale_(self.rule)
            clip([view.grad for view in self._views.values() if view.grad is not None], self._clip_norm)
        scaler.step(self.rule)
        scaler.update()
        self.rule.zero_grad()
        for parameter in self.parameters.values():
            parameter.grad = None


def clip(gradients: list[Tensor], most: float) -> None:
    """Scale all of them so that their norm together is at most that. One that is not finite stays so."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, torch.clamp(most / norm, max=1.0))


def normalisation_parameters(network: nn.Module) -> set[Tensor]:
    """The scales and shifts of normalisation layers."""
    return {
        parameter
        for module in network.modules()
        if isinstance(module, (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm))
        for parameter in module.parameters(recurse=False)
    }
