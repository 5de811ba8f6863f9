"""Averages gradients and statistics over the ranks inside a TensorFlow graph."""

import horovod.tensorflow as hvd
import tensorflow as tf


def average_gradients(gradients: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Each gradient's mean over all ranks.

    One operation a gradient: the graph starts each as soon as its input exists, so communication overlaps with what is left
    of backward, and Horovod fuses those that are ready together. Grouping them would wait for the last.
    """
    return {name: hvd.allreduce(gradient, name=f"gradient.{name}", op=hvd.Average) for name, gradient in gradients.items()}


def average_variables(variables: list[tf.Variable]) -> None:
    """Replace variables by their means over all ranks."""
    values = [variable.value() for variable in variables]
    for variable, mean in zip(variables, hvd.grouped_allreduce(values, op=hvd.Average), strict=True):
        variable.assign(mean)


def broadcast_variables(variables: list[tf.Variable]) -> None:
    """Replace variables by rank 0's."""
    hvd.broadcast_variables(variables, root_rank=0)
