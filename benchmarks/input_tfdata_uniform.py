"""As input_tfdata.py, but the crop's area is uniform between 8 and 100 %, as it is in all other contestants.

TensorFlow's own sampling draws smaller crops, and less of the image is decoded: that is another augmentation, not a faster one.
"""

import math
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from input_tfdata import IMAGE as IMAGE
from input_tfdata import VERSIONS as VERSIONS
from input_tfdata import load

TRIES = 10


def batches(folder: str, batch: int, threads: int) -> Iterator[np.ndarray]:
    """uint8 [batch, 224, 224, 3], without end."""
    return load(folder, batch, threads, random_crop)


def random_crop(shape: tf.Tensor) -> tf.Tensor:
    """(top, left, height, width): the first of ten tries that fits, or the whole image."""
    height, width = tf.cast(shape[0], tf.float32), tf.cast(shape[1], tf.float32)
    area = height * width * tf.random.uniform([TRIES], 0.08, 1.0)
    ratio = tf.exp(tf.random.uniform([TRIES], math.log(3 / 4), math.log(4 / 3)))
    tried = tf.round(tf.sqrt(tf.stack([area / ratio, area * ratio])))
    fits = (tried[0] <= height) & (tried[1] <= width)
    size = tf.where(tf.reduce_any(fits), tried[:, tf.argmax(fits)], [height, width])
    begin = tf.floor(tf.random.uniform([2]) * ([height, width] - size + 1))
    return tf.cast(tf.concat([begin, size], axis=0), tf.int32)
