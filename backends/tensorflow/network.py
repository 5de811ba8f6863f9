"""A described network as plain TensorFlow variables and a forward function, under torchvision's names.

Images are NHWC and convolutions HWIO here, the layout TensorFlow runs everywhere; `to_canonical` and `from_canonical`
translate at the edge. Plain variables, because Horovod's Keras optimiser does not work with Keras 3.
"""

import numpy as np
import tensorflow as tf

from lbsgd.backends.batch_norm import EPSILON
from lbsgd.models.initialization import initial_arrays
from lbsgd.models.network import Block, Network, Unit
from lbsgd.models.state import Arrays


class ResidualNetwork:
    """The network's variables by canonical name, and its forward pass."""

    def __init__(self, description: Network, seed: int, last_gamma: float) -> None:
        self.description = description
        start = {name: from_canonical(array) for name, array in initial_arrays(description, seed, last_gamma).items()}
        self.trained = {name: tf.Variable(start[name]) for name in description.parameters}
        self.decayed = {name for name, parameter in description.parameters.items() if parameter.decays}
        self.adapted = {name for name, parameter in description.parameters.items() if parameter.adapts}
        self.buffers = {n: tf.Variable(a, trainable=False) for n, a in start.items() if n not in self.trained}

    groups = 1
    """Virtual workers that follow one another in a training batch, each with its own batch norm statistics."""

    def statistics(self) -> list[tf.Variable]:
        """Batch norm's running means and variances."""
        return [v for name, v in self.buffers.items() if not name.endswith("num_batches_tracked")]

    def logits(self, x: tf.Tensor, training: bool, momentum: tf.Tensor | float) -> tf.Tensor:
        """x: [batch, height, width, 3] in the precision to compute in; returns float32 [batch, classes].

        momentum: the weight of this batch's statistics, the mean over its virtual workers, in the running average.
        """
        x = tf.nn.relu(self._unit(x, self.description.stem, training, momentum))
        if self.description.max_pool:  # the input is not negative: padding by zeros is padding by -inf
            x = tf.nn.max_pool2d(pad(x, 1), 3, 2, "VALID")
        for block in self.description.blocks:
            x = self._block(x, block, training, momentum)
        features = tf.reduce_mean(x, [1, 2])
        weight, bias = self.trained["fc.weight"], self.trained["fc.bias"]
        return tf.cast(tf.matmul(features, tf.cast(weight, x.dtype)), tf.float32) + bias

    def _block(self, x: tf.Tensor, block: Block, training: bool, momentum: tf.Tensor | float) -> tf.Tensor:
        y = x
        for unit in block.units:
            y = self._unit(y, unit, training, momentum)
            if unit is not block.units[-1]:
                y = tf.nn.relu(y)
        shortcut = self._unit(x, block.shortcut, training, momentum) if block.shortcut else x
        return tf.nn.relu(y + shortcut)

    def _unit(self, x: tf.Tensor, unit: Unit, training: bool, momentum: tf.Tensor | float) -> tf.Tensor:
        weight = tf.cast(self.trained[f"{unit.convolution}.weight"], x.dtype)
        if unit.stride > 1:
            x = pad(x, unit.padding)
        x = tf.nn.conv2d(x, weight, unit.stride, "VALID" if unit.stride > 1 else "SAME")
        return self._batch_norm(x, unit.batch_norm, training, momentum)

    def _batch_norm(self, x: tf.Tensor, name: str, training: bool, momentum: tf.Tensor | float) -> tf.Tensor:
        scale, shift = self.trained[f"{name}.weight"], self.trained[f"{name}.bias"]
        mean, variance = self.buffers[f"{name}.running_mean"], self.buffers[f"{name}.running_var"]
        if not training:
            return tf.compat.v1.nn.fused_batch_norm(x, scale, shift, mean, variance, EPSILON, is_training=False)[0]
        groups = self.groups
        if groups > 1:  # one worker's channels beside the other workers'
            x, scale, shift = beside(x, groups), tf.tile(scale, [groups]), tf.tile(shift, [groups])
        x, batch_mean, batch_variance = tf.compat.v1.nn.fused_batch_norm(x, scale, shift, epsilon=EPSILON)
        for running, batch in ((mean, batch_mean), (variance, batch_variance)):
            of_worker = tf.reshape(batch, [groups, -1])
            running.assign_add(momentum * (tf.reduce_mean(of_worker, 0) - running))
        self.buffers[f"{name}.num_batches_tracked"].assign_add(groups)
        return behind(x, groups) if groups > 1 else x

    def to_canonical(self, variables: dict[str, tf.Variable]) -> Arrays:
        """Copies of variables as arrays in canonical layout."""
        return {name: to_canonical(variable.numpy()) for name, variable in variables.items()}

    def from_canonical(self, arrays: Arrays) -> Arrays:
        """Canonical arrays in this network's layout."""
        return {name: from_canonical(array) for name, array in arrays.items()}


def beside(x: tf.Tensor, groups: int) -> tf.Tensor:
    """[groups * n, h, w, c] as [n, h, w, groups * c]."""
    count, height, width, channels = x.shape
    workers = tf.reshape(x, [groups, count // groups, height, width, channels])
    return tf.reshape(tf.transpose(workers, [1, 2, 3, 0, 4]), [count // groups, height, width, groups * channels])


def behind(x: tf.Tensor, groups: int) -> tf.Tensor:
    """The inverse of `beside`."""
    count, height, width, channels = x.shape
    workers = tf.reshape(x, [count, height, width, groups, channels // groups])
    return tf.reshape(tf.transpose(workers, [3, 0, 1, 2, 4]), [groups * count, height, width, channels // groups])


def pad(x: tf.Tensor, edge: int) -> tf.Tensor:
    """Zeros on all sides of NHWC images.

    TensorFlow's SAME pads strided windows on one side only. Padding inside of the convolution (explicit paddings) keeps oneDNN
    from running it: half the speed on a CPU.
    """
    return tf.pad(x, [[0, 0], [edge, edge], [edge, edge], [0, 0]]) if edge else x


def to_canonical(array: np.ndarray) -> np.ndarray:
    """HWIO to OIHW, in x out to out x in; vectors and scalars as they are. Always a C-contiguous copy."""
    return np.array(array.transpose({4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim)), order="C")


def from_canonical(array: np.ndarray) -> np.ndarray:
    """OIHW to HWIO, out x in to in x out; vectors and scalars as they are."""
    return array.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim))
