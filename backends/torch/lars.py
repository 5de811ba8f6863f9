"""LARS as an optimiser of torch."""

from typing import Any

import torch
from torch import Tensor


class Lars(torch.optim.Optimizer):
    """v = m v + eta trust (g + lambda w), w = w - v, as `Optimizer` of the recipe says.

    Groups have `adapted`; those without have a trust of 1 and no weight decay. State: "momentum_buffer", as torch's SGD has.
    """

    def __init__(self, groups: list[dict[str, Any]], *, momentum: float, trust: float, epsilon: float) -> None:
        super().__init__(groups, {"lr": 0.0, "momentum": momentum, "trust": trust, "epsilon": epsilon})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # the base class allows a closure, nobody here has one
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, self.state[parameter]["momentum_buffer"], group)

    def _update(self, weight: Tensor, gradient: Tensor, velocity: Tensor, group: dict[str, Any]) -> None:
        velocity.mul_(group["momentum"])
        if not group["adapted"]:
            velocity.add_(gradient, alpha=group["lr"])
        else:
            of_weight, of_gradient = torch.linalg.vector_norm(weight), torch.linalg.vector_norm(gradient)
            trust = group["trust"] * of_weight / (of_gradient + group["weight_decay"] * of_weight + group["epsilon"])
            rate = group["lr"] * torch.where((of_weight > 0) & (of_gradient > 0), trust, torch.ones_like(trust))
            velocity.add_(rate * gradient.add(weight, alpha=group["weight_decay"]))
        weight.sub_(velocity)
