"""The device of a rank in PyTorch: its own GPU by its local rank, or the CPU."""

import os
from typing import Literal

import torch

from lbsgd.backends import processor
from lbsgd.errors import EnvironmentNotReady
from lbsgd.ranks.world import World


def choose_device(world: World) -> torch.device:
    """This rank's own GPU, or the CPU where there is none.

    Raises EnvironmentNotReady when the host has fewer GPUs than ranks.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if world.local_size > torch.cuda.device_count():
        raise EnvironmentNotReady(
            f"{world.local_size} ranks on this host but {torch.cuda.device_count()} GPUs; start one rank per GPU"
        )
    torch.cuda.set_device(world.local_rank)
    return torch.device("cuda", world.local_rank)


def kind_of(device: torch.device) -> Literal["cpu", "gpu"]:
    """What sort of device it is."""
    return "gpu" if device.type == "cuda" else "cpu"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 by hardware: GPUs do from compute capability 8.0 (A100) on."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return processor.has_bf16()


def set_up_gpu(deterministic: bool) -> None:
    """Make float32 mean float32, and let cuDNN try its algorithms or take those that repeat themselves."""
    torch.backends.cudnn.allow_tf32 = False  # torch's default rounds a convolution's inputs to 10 bits
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
        torch.use_deterministic_algorithms(True)
