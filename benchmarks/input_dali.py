"""DALI's pipeline for ImageNet on the CPU, its operators with their defaults.

pip install nvidia-dali-cuda120 nvidia-nvimgcodec-cu12
"""

from collections.abc import Iterator

import numpy as np
from nvidia import dali
from nvidia.dali import fn, pipeline_def, types

IMAGE = ((224, 224, 3), "uint8")
VERSIONS = {"dali": dali.__version__}

SIZE = 224


@pipeline_def
def training_images(folder: str):
    """A random crop of 8 to 100 % of the area, resized, every second one mirrored."""
    data, _ = fn.readers.file(file_root=f"{folder}/train", random_shuffle=True)
    images = fn.decoders.image_random_crop(
        data,
        device="cpu",
        output_type=types.RGB,
        random_area=[0.08, 1.0],
        random_aspect_ratio=[3 / 4, 4 / 3],
        num_attempts=10,
    )
    images = fn.resize(images, resize_x=SIZE, resize_y=SIZE)
    return fn.flip(images, horizontal=fn.random.coin_flip())


def batches(folder: str, batch: int, threads: int) -> Iterator[np.ndarray]:
    """uint8 [batch, 224, 224, 3], without end."""
    pipeline = training_images(folder, batch_size=batch, num_threads=threads, device_id=None)
    pipeline.build()
    while True:
        (images,) = pipeline.run()
        yield np.asarray(images.as_tensor())
