"""The loop a TensorFlow user writes after Horovod's documentation, and nothing of lbsgd.

One batch is drawn once and stays where it is: no loader, no pixels to normalise, no loss to read in between.
"""

import horovod.tensorflow as hvd
import tensorflow as tf
from keras_resnet18 import LEARNING_RATE, loss_of, resnet18, update


class Loop:
    """The stock replica of this rank."""

    def __init__(self, *, batch: int, size: int, classes: int, precision: str) -> None:
        hvd.init()
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.random.set_seed(hvd.rank())
        self.images = tf.random.normal((batch, size, size, 3))
        self.labels = tf.random.uniform((batch,), maxval=classes, dtype=tf.int64)
        self.model = resnet18(size, classes, precision)
        hvd.broadcast_variables([variable.value for variable in self.model.variables], root_rank=0)
        self.variables = [variable.value for variable in self.model.trainable_variables]
        self.velocity = [tf.Variable(tf.zeros_like(variable)) for variable in self.variables]
        self.step = tf.function(self._step)

    def _step(self) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_of(self.model, self.images, self.labels)
        gradients = hvd.DistributedGradientTape(tape).gradient(loss, self.variables)
        for variable, velocity, gradient in zip(self.variables, self.velocity, gradients, strict=True):
            update(variable, velocity, gradient, LEARNING_RATE)
        return loss

    def take(self, steps: int) -> float:
        """Take that many steps; the loss of the last."""
        for _ in range(steps):
            loss = self.step()
        return float(loss)

    def gradient_sizes(self) -> list[int]:
        """Numbers in each gradient."""
        return [int(tf.size(variable)) for variable in self.variables]
