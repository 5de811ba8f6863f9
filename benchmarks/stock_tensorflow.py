"""The loop a TensorFlow user writes after Horovod's documentation, and nothing of lbsgd.

One batch is drawn once and stays where it is: no loader, no pixels to normalise, no loss to read in between. Layers are
Keras's but for batch norm: that of Keras 3 is made of single operations, where tf.keras used to call TensorFlow's fused
kernel. Leaving it slow would hide what lbsgd's loop costs.
"""

import horovod.tensorflow as hvd
import tensorflow as tf
from tensorflow.keras import Input, Model, layers


class FusedBatchNorm(layers.Layer):
    """Batch norm of NHWC images by TensorFlow's kernel; always in training mode."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        channels = shape[-1:]
        self.gamma = self.add_weight(shape=channels, initializer="ones")
        self.beta = self.add_weight(shape=channels, initializer="zeros")
        self.mean = self.add_weight(shape=channels, initializer="zeros", trainable=False)
        self.variance = self.add_weight(shape=channels, initializer="ones", trainable=False)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=self.mean.value,
            variance=self.variance.value,
            epsilon=1e-5,
            exponential_avg_factor=0.1,
        )
        self.mean.assign(mean)
        self.variance.assign(variance)
        return y


def convolution(x: tf.Tensor, filters: int, kernel: int, stride: int) -> tf.Tensor:
    """Padded on all sides, as the other side's; where the stride is 1 that is what "same" does."""
    if stride > 1:
        x = layers.ZeroPadding2D(kernel // 2)(x)
    x = layers.Conv2D(filters, kernel, stride, padding="valid" if stride > 1 else "same", use_bias=False)(x)
    return FusedBatchNorm()(x)


def basic_block(x: tf.Tensor, filters: int, stride: int) -> tf.Tensor:
    """Two 3x3 convolutions and a shortcut."""
    y = layers.ReLU()(convolution(x, filters, 3, stride))
    y = convolution(y, filters, 3, 1)
    if stride != 1 or x.shape[-1] != filters:
        x = convolution(x, filters, 1, stride)
    return layers.ReLU()(layers.Add()([x, y]))


def resnet18(size: int, classes: int) -> Model:
    """ResNet-18 for photographs."""
    images = Input((size, size, 3))
    x = layers.ReLU()(convolution(images, 64, 7, 2))
    x = layers.MaxPool2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for filters, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        x = basic_block(x, filters, stride)
    return Model(images, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


class Loop:
    """The stock replica of this rank. Horovod has been started by the other side."""

    def __init__(self, *, batch: int, size: int, classes: int, learning_rate: float) -> None:
        tf.random.set_seed(hvd.rank())
        self.images = tf.random.normal((batch, size, size, 3))
        self.labels = tf.random.uniform((batch,), maxval=classes, dtype=tf.int64)
        self.learning_rate = learning_rate
        self.model = resnet18(size, classes)
        hvd.broadcast_variables([variable.value for variable in self.model.variables], root_rank=0)
        self.variables = [variable.value for variable in self.model.trainable_variables]
        self.velocity = [tf.Variable(tf.zeros_like(variable)) for variable in self.variables]
        self.step = tf.function(self._step)

    def _step(self) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = self.model(self.images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(self.labels, logits))
        gradients = hvd.DistributedGradientTape(tape).gradient(loss, self.variables)
        for variable, velocity, gradient in zip(self.variables, self.velocity, gradients, strict=True):
            tf.raw_ops.ResourceApplyMomentum(
                var=variable.handle,
                accum=velocity.handle,
                lr=self.learning_rate,
                grad=gradient + 1e-4 * variable,
                momentum=0.9,
                use_nesterov=True,
            )
        return loss

    def take(self, steps: int) -> float:
        """Take that many steps; the loss of the last."""
        for _ in range(steps):
            loss = self.step()
        return float(loss)

    def gradient_sizes(self) -> list[int]:
        """Numbers in each gradient."""
        return [int(tf.size(variable)) for variable in self.variables]
