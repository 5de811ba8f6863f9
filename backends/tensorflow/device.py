"""The device of a rank in TensorFlow: its own GPU by its local rank, or the CPU."""

import tensorflow as tf

from lbsgd.backends import processor
from lbsgd.backends.contract import threads_of
from lbsgd.errors import EnvironmentNotReady
from lbsgd.ranks.world import World


def choose_device(world: World) -> str:
    """Make this rank's own GPU the only one TensorFlow sees, or settle the threads of a CPU.

    Returns the GPU's name, or "cpu". Raises EnvironmentNotReady when the host has fewer GPUs than ranks.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        tf.config.threading.set_intra_op_parallelism_threads(threads_of(world))
        tf.config.threading.set_inter_op_parallelism_threads(threads_of(world))
        return "cpu"
    if world.local_size > len(gpus):
        raise EnvironmentNotReady(f"{world.local_size} ranks on this host but {len(gpus)} GPUs; start one rank per GPU")
    gpu = gpus[world.local_rank]
    tf.config.set_visible_devices(gpu, "GPU")
    tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.experimental.enable_tensor_float_32_execution(False)  # float32 shall mean float32
    return tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)


def has_fast_bf16(world: World) -> bool:
    """Whether this rank's device computes in bfloat16 by hardware: GPUs do from compute capability 8.0 (A100) on."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return processor.has_bf16()
    details = tf.config.experimental.get_device_details(gpus[min(world.local_rank, len(gpus) - 1)])
    return details.get("compute_capability", (0, 0)) >= (8, 0)
