"""One PyTorch tensor summed over the ranks through Horovod, for `lbsgd bench allreduce` to time."""

from collections.abc import Callable
from typing import Any

import horovod.torch as hvd
import numpy as np
import torch
from torch import Tensor

from lbsgd.backends.allreduce_contract import Transport
from lbsgd.backends.contract import ReplicaSpec
from lbsgd.backends.torch.device import choose_device


class HorovodAllreduce(Transport):
    """Horovod on tensors where the PyTorch backend has its gradients, which it averages in place."""

    name = "horovod"
    in_place = True

    def __init__(self, spec: ReplicaSpec) -> None:
        self._comm = spec.world.for_other_libraries()
        self._device = choose_device(spec.world)

    def start(self) -> None:
        hvd.init(self._comm)

    def collective(self, values: np.ndarray, in_place: bool) -> Callable[[], Tensor]:
        tensor = torch.tensor(values, device=self._device)
        begin = hvd.allreduce_async_ if in_place else hvd.allreduce_async
        name = f"bench.{values.nbytes}.{in_place}"

        def run() -> Tensor:
            total = hvd.synchronize(begin(tensor, name=name, op=hvd.Sum))
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            return total

        return run

    def to_array(self, total: Tensor) -> np.ndarray:
        return total.cpu().numpy()

    def environment(self) -> dict[str, Any]:
        on_gpu = self._device.type == "cuda"
        return {
            "framework": "torch",
            "device": torch.cuda.get_device_name(self._device) if on_gpu else "cpu",
            "nccl": bool(hvd.nccl_built()),
        }
