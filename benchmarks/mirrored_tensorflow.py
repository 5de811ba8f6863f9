"""The loop a TensorFlow user writes after TensorFlow's documentation: MultiWorkerMirroredStrategy, and nothing of lbsgd.

One rank has nobody to talk to: it trains without a strategy, which is faster.
"""

import json
import os
from functools import cache

import tensorflow as tf
from keras_resnet18 import LEARNING_RATE, loss_of, resnet18, update


class Loop:
    """The replica of this rank."""

    def __init__(self, *, rank: int, ranks: int, batch: int, size: int, classes: int, precision: str) -> None:
        tf.random.set_seed(rank)
        self.strategy = strategy_of(rank, ranks)
        self.images = tf.random.normal((batch, size, size, 3))
        self.labels = tf.random.uniform((batch,), maxval=classes, dtype=tf.int64)
        with self.strategy.scope():
            self.model = resnet18(size, classes, precision)
            self.variables = [variable.value for variable in self.model.trainable_variables]
            self.velocity = [tf.Variable(tf.zeros_like(variable)) for variable in self.variables]
        self.step = tf.function(lambda: self.strategy.run(self._step))

    def _step(self) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_of(self.model, self.images, self.labels)
        gradients = tape.gradient(loss, self.variables)
        if self.strategy.num_replicas_in_sync > 1:
            gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
        for variable, velocity, gradient in zip(self.variables, self.velocity, gradients, strict=True):
            update(local(variable), local(velocity), gradient, LEARNING_RATE)
        return loss

    def take(self, steps: int) -> float:
        """Take that many steps; the loss of the last."""
        for _ in range(steps):
            loss = self.step()
        return float(loss)

    def gradient_sizes(self) -> list[int]:
        """Numbers in each gradient."""
        return [int(tf.size(variable)) for variable in self.variables]


@cache
def strategy_of(rank: int, ranks: int) -> tf.distribute.Strategy:
    """The strategy of this process, of which there can be one; none for a single rank."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    if ranks == 1:
        return tf.distribute.get_strategy()
    addresses = os.environ["STEP_ADDRESSES"].split(",")
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}})
    return tf.distribute.MultiWorkerMirroredStrategy()


def local(variable: tf.Variable) -> tf.Variable:
    """This replica's copy of a mirrored variable: the fused kernel wants a plain one."""
    return variable._get() if hasattr(variable, "_get") else variable
