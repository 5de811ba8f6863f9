"""Encoded image in, RGB pixels out.

JPEGs go through simplejpeg (libjpeg-turbo), which can decode at a fraction of the resolution. Whatever that
refuses, and every other format, goes through Pillow. The content decides, not the name: ImageNet holds a PNG
and CMYK files named .JPEG. EXIF orientation is left alone, as torchvision does.
"""

import io
import math

import numpy as np
import simplejpeg
from PIL import Image

from lbsgd.data.source import ChooseCrop, Crop, cut

# Decoding at 5/8 to 7/8 of the size takes longer than decoding all of it.
LEAST_REDUCTION = 2


def decode(data: bytes, choose: ChooseCrop | None = None) -> np.ndarray:
    """The chosen part of an image, or all of it: uint8 [height, width, 3].

    Raises ValueError with a reason in one line.
    """
    if not data:
        raise ValueError("the file is empty")
    try:
        return _decode_jpeg(data, choose)
    except ValueError:
        return _decode_other(data, choose)


def _decode_jpeg(data: bytes, choose: ChooseCrop | None) -> np.ndarray:
    height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    if colorspace in ("CMYK", "YCCK"):
        raise ValueError("Pillow knows Adobe's inverted CMYK")
    if choose is None:
        return simplejpeg.decode_jpeg(data)
    crop = choose(height, width)
    least = _least_whole(crop, height, width)
    pixels = simplejpeg.decode_jpeg(data, min_height=least[0], min_width=least[1], min_factor=LEAST_REDUCTION)
    return cut(pixels, crop, height, width)


def _least_whole(crop: Crop, height: int, width: int) -> tuple[int, int]:
    """The size at which the whole image must be decoded for the crop to have its least size."""
    return math.ceil(height * crop.least_height / crop.height), math.ceil(width * crop.least_width / crop.width)


def _decode_other(data: bytes, choose: ChooseCrop | None) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = _to_rgb(image)
    except Exception as error:  # Pillow's parsers raise whatever they stumble over
        reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else " ".join(str(error).split())
        raise ValueError(reason or type(error).__name__) from error
    if choose is None:
        return pixels
    height, width, _ = pixels.shape
    return cut(pixels, choose(height, width), height, width)


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):  # Pillow would clip 16-bit gray at 255
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, np.newaxis], 3, axis=2)
    return np.array(image.convert("RGB"))
