"""TensorFlow's input pipeline as its ImageNet examples write it, with the fused kernel that decodes only the crop's rows."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

IMAGE = ((224, 224, 3), "uint8")
VERSIONS = {"tensorflow": tf.__version__}

SIZE = 224


def batches(folder: str, batch: int, threads: int) -> Iterator[np.ndarray]:
    """uint8 [batch, 224, 224, 3], without end."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    files = tf.io.gfile.glob(f"{folder}/train/*/*")
    dataset = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files)).repeat()
    dataset = dataset.map(training_image).batch(batch, drop_remainder=True)
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = threads
    return dataset.with_options(options).as_numpy_iterator()


def training_image(file: tf.Tensor) -> tf.Tensor:
    """A random crop of 8 to 100 % of the area, resized, every second one mirrored: uint8 [224, 224, 3]."""
    data = tf.io.read_file(file)
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        tf.image.extract_jpeg_shape(data),
        bounding_boxes=[[[0.0, 0.0, 1.0, 1.0]]],
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], size[:2]], axis=0)
    image = tf.io.decode_and_crop_jpeg(data, window, channels=3)
    image = tf.image.random_flip_left_right(tf.image.resize(image, (SIZE, SIZE)))
    return tf.cast(image, tf.uint8)
