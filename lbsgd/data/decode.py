"""Encoded image in, RGB pixels out.

JPEGs go through libjpeg-turbo, which can decode at a fraction of the resolution and, told so, stops below the last row that is
wanted: by turbojpeg.py, which leaves out columns as well, or else by simplejpeg. Whatever these refuse, and every other
format, goes through Pillow. The content decides, not the name: ImageNet holds a PNG and CMYK files named .JPEG. EXIF
orientation is left alone, as torchvision does.
"""

import io
import math

import numpy as np
import simplejpeg
from PIL import Image

from lbsgd.data.source import ChooseCrop, Crop, cut
from lbsgd.data.turbojpeg import decode_region, library

# Decoding at 5/8 to 7/8 of the size takes longer than decoding all of it.
LEAST_REDUCTION = 2

LIMIT_PIXELS = 2**27
"""What claims to be larger is taken for a decompression bomb: it would fill 400 MB. ImageNet's largest has half of that."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What Pillow may open: pictures, and none of the formats that start another program."""

SMOOTHED = 2
"""Rows below one that have a part in it when its colour is upsampled."""

END_OF_IMAGE = b"\xff\xd9"
FRAME_MARKERS = (0xC0, 0xC1, 0xC2)
"""Start of a baseline, an extended or a progressive frame, all Huffman-coded."""

Image.MAX_IMAGE_PIXELS = None  # LIMIT_PIXELS is checked here: Pillow would write a warning first


def decode(data: bytes, choose: ChooseCrop | None = None) -> np.ndarray:
    """The chosen part of an image, or all of it: uint8 [height, width, 3].

    Raises ValueError with a reason in one line. Damage below the chosen part goes unseen.
    """
    if not data:
        raise ValueError("the file is empty")
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        if colorspace in ("CMYK", "YCCK"):
            raise ValueError("Pillow knows Adobe's inverted CMYK")
    except ValueError:
        return _decode_other(data, choose)
    _require_size(height, width)
    try:
        return _decode_jpeg(data, height, width, choose)
    except ValueError:  # a JPEG that breaks a rule but may still be read
        return _decode_other(data, choose)


def _decode_jpeg(data: bytes, height: int, width: int, choose: ChooseCrop | None) -> np.ndarray:
    if choose is None:
        return simplejpeg.decode_jpeg(data)
    crop = choose(height, width)
    shortened, rows = shorten(data, height, crop.top + crop.height)
    if library() is not None:
        return decode_region(shortened, width, crop, strict=shortened is data)
    least_height, least_width = _least_whole(crop, rows, width)
    pixels = simplejpeg.decode_jpeg(
        shortened,
        min_height=least_height,
        min_width=least_width,
        min_factor=LEAST_REDUCTION,
        strict=shortened is data,  # what follows the last row would count as an error
    )
    return cut(pixels, crop, rows, width)


def shorten(data: bytes, height: int, bottom: int) -> tuple[bytes, int]:
    """A JPEG that ends soon below row `bottom`, and its height: a decoder stops there, and unpacking is most of its work.

    Rows are coded from top to bottom, so it is enough to change the height in the header. A file without its end, or of a
    kind where this does not hold, is returned as it is.
    """
    found = _frame(data) if data.endswith(END_OF_IMAGE) else None
    if found is None:
        return data, height
    at, unit = found
    rows = -(-(bottom + SMOOTHED) // unit) * unit
    if rows >= height:
        return data, height
    return b"".join((data[:at], rows.to_bytes(2, "big"), data[at + 2 :])), rows


def _frame(data: bytes) -> tuple[int, int] | None:
    """Where the frame header has the image's height, and the rows of a coding unit; None when it is not of FRAME_MARKERS."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in FRAME_MARKERS:
            components = data[at + 9]
            sampling = data[at + 11 : at + 10 + 3 * components : 3]
            return (at + 5, 8 * max(factors & 15 for factors in sampling)) if sampling else None
        if 0xC3 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # another kind of frame
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _least_whole(crop: Crop, height: int, width: int) -> tuple[int, int]:
    """The size at which height x width pixels must be decoded for the crop to have its least size."""
    return math.ceil(height * crop.least_height / crop.height), math.ceil(width * crop.least_width / crop.width)


def _decode_other(data: bytes, choose: ChooseCrop | None) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _require_size(image.height, image.width)
            pixels = _to_rgb(image)
    except Exception as error:  # Pillow's parsers raise whatever they stumble over
        reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else " ".join(str(error).split())
        raise ValueError(reason or type(error).__name__) from error
    if choose is None:
        return pixels
    height, width, _ = pixels.shape
    return cut(pixels, choose(height, width), height, width)


def _require_size(height: int, width: int) -> None:
    if height * width > LIMIT_PIXELS:
        raise ValueError(f"{width} x {height} pixels are more than the limit of {LIMIT_PIXELS:,}")


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):  # Pillow would clip 16-bit gray at 255
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, np.newaxis], 3, axis=2)
    return np.array(image.convert("RGB"))
