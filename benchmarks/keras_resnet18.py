"""ResNet-18 of Keras layers, and its update, for the contestants that a TensorFlow user would write.

Layers are Keras's but for batch norm: that of Keras 3 is made of single operations, where tf.keras used to call TensorFlow's
fused kernel. Leaving it slow would hide what lbsgd's loop costs.
"""

import tensorflow as tf
from tensorflow.keras import Input, Model, layers, mixed_precision

LEARNING_RATE = 0.00625
"""Of 16 images, by the paper's rule."""

POLICIES = {"fp32": "float32", "bf16": "mixed_bfloat16"}


class FusedBatchNorm(layers.Layer):
    """Batch norm of NHWC images by TensorFlow's kernel; always in training mode."""

    def __init__(self) -> None:
        super().__init__(dtype="float32", autocast=False)  # the kernel takes bfloat16 images and float32 statistics

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


def resnet18(size: int, classes: int, precision: str) -> Model:
    """ResNet-18 for photographs."""
    mixed_precision.set_global_policy(POLICIES[precision])
    images = Input((size, size, 3))
    x = layers.ReLU()(convolution(images, 64, 7, 2))
    x = layers.MaxPool2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for filters, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        x = basic_block(x, filters, stride)
    return Model(images, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


def loss_of(model: Model, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The mean cross-entropy in training mode."""
    logits = tf.cast(model(images, training=True), tf.float32)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def update(variable: tf.Variable, velocity: tf.Variable, gradient: tf.Tensor, learning_rate: float) -> None:
    """SGD with Nesterov momentum by TensorFlow's fused kernel."""
    tf.raw_ops.ResourceApplyMomentum(
        var=variable.handle,
        accum=velocity.handle,
        lr=learning_rate,
        grad=gradient + 1e-4 * variable,
        momentum=0.9,
        use_nesterov=True,
    )
