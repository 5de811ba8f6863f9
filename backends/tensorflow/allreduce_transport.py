"""One TensorFlow tensor summed over the ranks through Horovod, for `lbsgd bench allreduce` to time."""

from collections.abc import Callable
from typing import Any

import horovod.tensorflow as hvd
import numpy as np
import tensorflow as tf

from lbsgd.backends.allreduce_contract import Transport
from lbsgd.backends.contract import ReplicaSpec
from lbsgd.backends.tensorflow.device import choose_device


class HorovodAllreduce(Transport):
    """Horovod on tensors where the TensorFlow backend has its gradients. TensorFlow's tensors never change in place."""

    name = "horovod"
    in_place = False

    def __init__(self, spec: ReplicaSpec) -> None:
        self._comm = spec.world.for_other_libraries()
        self._device = choose_device(spec.world)

    def start(self) -> None:
        hvd.init(self._comm)

    def collective(self, values: np.ndarray, in_place: bool) -> Callable[[], tf.Tensor]:
        tensor = tf.constant(values)
        name = f"bench.{values.nbytes}"
        reduce = tf.function(lambda mine: hvd.allreduce(mine, name=name, op=hvd.Sum))

        def run() -> tf.Tensor:
            total = reduce(tensor)
            tf.test.experimental.sync_devices()
            return total

        return run

    def to_array(self, total: tf.Tensor) -> np.ndarray:
        return total.numpy()

    def environment(self) -> dict[str, Any]:
        return {"framework": "tensorflow", "device": self._device, "nccl": bool(hvd.nccl_built())}
