"""Networks of timm (`--model timm:NAME`), under timm's own parameter names."""

import torch
from torch import nn

from lbsgd.errors import EnvironmentNotReady, UsageError


def library_network(name: str, classes: int, seed: int) -> nn.Module:
    """timm's network of that name with fresh weights drawn from `seed`."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        raise EnvironmentNotReady(f"--model timm:{name} needs timm ({error}); pip install 'lbsgd[timm]'") from error
    if name not in timm.list_models():
        raise UsageError(f"timm has no model {name!r}; see timm.list_models()")
    torch.manual_seed(seed)
    return timm.create_model(name, num_classes=classes)
