"""Two ranks reduce a tensor by Horovod and compare it with the exact result; rank 0 prints one line of JSON.

A program, not a module to import: verify gives its path to the interpreter under mpirun, with the
framework's name as the argument. It imports nothing of lbsgd, so that it tests Horovod and nothing else.
"""

import json
import sys

import numpy as np

LENGTH = 100_000


def connect_torch() -> tuple:
    """hvd, the kind of device, and the functions from an array to a tensor on it and back."""
    import horovod.torch as hvd
    import torch

    hvd.init()
    on_gpu = hvd.nccl_built() and torch.cuda.device_count() >= hvd.local_size()
    device = torch.device("cuda", hvd.local_rank()) if on_gpu else torch.device("cpu")
    return (
        hvd,
        device.type,
        lambda array: torch.from_numpy(array).to(device),
        lambda tensor: tensor.cpu().numpy(),
    )


def connect_tensorflow() -> tuple:
    """The same for TensorFlow."""
    import horovod.tensorflow as hvd
    import tensorflow as tf

    hvd.init()
    gpus = tf.config.list_physical_devices("GPU")
    on_gpu = hvd.nccl_built() and len(gpus) >= hvd.local_size()
    tf.config.set_visible_devices(gpus[hvd.local_rank()] if on_gpu else [], "GPU")
    return hvd, "cuda" if on_gpu else "cpu", tf.constant, lambda tensor: tensor.numpy()


def require_equal(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    """Leave with a message unless the arrays are equal: numbers this small leave float32 nothing to round."""
    if not np.array_equal(found, expected):
        wrong = int(np.flatnonzero(found != expected)[0])
        sys.exit(f"{what}: element {wrong} is {found[wrong]}, it must be {expected[wrong]}")


def main(framework: str) -> None:
    hvd, device, to_tensor, to_array = {"torch": connect_torch, "tensorflow": connect_tensorflow}[framework]()
    values = np.arange(LENGTH, dtype=np.float32)
    mine = to_tensor(values * np.float32(hvd.rank() + 1))
    average = to_array(hvd.allreduce(mine, op=hvd.Average, name="average"))
    total = to_array(hvd.allreduce(mine, op=hvd.Sum, name="sum"))
    expected = values * np.float32(hvd.size() * (hvd.size() + 1) / 2)
    require_equal(f"{framework}, rank {hvd.rank()}, sum", total, expected)
    require_equal(f"{framework}, rank {hvd.rank()}, average", average, expected / np.float32(hvd.size()))
    if hvd.rank() == 0:
        features = {name: bool(getattr(hvd, f"{name}_built")()) for name in ("mpi", "gloo", "nccl", "cuda")}
        print(json.dumps({"ranks": hvd.size(), "device": device} | features), flush=True)
    hvd.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
