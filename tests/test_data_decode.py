import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from lbsgd.data.decode import decode
from lbsgd.data.source import Crop


def smooth_image(height: int, width: int) -> np.ndarray:
    """A colour gradient: it survives JPEG and resizing almost unchanged."""
    down, across = np.mgrid[0:height, 0:width]
    channels = (255 * down / height, 255 * across / width, 255 * (down + across) / (height + width))
    return np.stack(channels, axis=2).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def difference(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_decode_to_rgb(mode):
    image = Image.fromarray(smooth_image(60, 90)).convert(mode)
    pixels = decode(encoded(image, "JPEG", quality=95))
    assert pixels.dtype == np.uint8
    assert difference(pixels, np.asarray(image.convert("RGB"))) < 2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_pngs_decode_exactly(mode):
    image = Image.fromarray(smooth_image(20, 30)).convert(mode)
    np.testing.assert_array_equal(decode(encoded(image, "PNG")), np.asarray(image.convert("RGB")))


def test_16_bit_gray_keeps_its_upper_bits():
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    pixels = decode(encoded(Image.fromarray(levels), "PNG"))
    for channel in range(3):
        np.testing.assert_array_equal(pixels[:, :, channel], levels >> 8)


def test_16_bit_rgb_png_is_read():
    levels = np.linspace(0, 65535, 8 * 8 * 3).astype(np.uint16).reshape(8, 8, 3)
    written, data = cv2.imencode(".png", levels[:, :, ::-1])
    assert written
    assert difference(decode(data.tobytes()), levels >> 8) < 1


def test_orientation_in_exif_is_left_alone():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(Image.fromarray(smooth_image(60, 90)), "JPEG", exif=exif)).shape == (60, 90, 3)


def test_a_colour_profile_does_not_change_pixels():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    image = Image.fromarray(smooth_image(20, 20))
    np.testing.assert_array_equal(decode(encoded(image, "PNG", icc_profile=profile)), np.asarray(image))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_crop_is_that_part_of_the_image(kind):
    data = encoded(Image.fromarray(smooth_image(60, 90)), kind)
    sizes = []

    def choose(height, width):
        sizes.append((height, width))
        return Crop(top=10, left=20, height=30, width=40, least_height=30, least_width=40)

    np.testing.assert_array_equal(decode(data, choose), decode(data)[10:40, 20:60])
    assert sizes[-1] == (60, 90)


@pytest.mark.parametrize("least, side", [(300, 225), (113, 225), (112, 113), (84, 84), (56, 56), (1, 28)])
def test_a_jpeg_is_decoded_at_the_least_resolution_that_suffices(least, side):
    """225 pixels of 375 x 500, at 1/1, 1/2, 3/8, 1/4 and 1/8 of the size: like the full one, shrunk."""
    data = encoded(Image.fromarray(smooth_image(375, 500)), "JPEG", quality=95)
    crop = Crop(top=60, left=90, height=225, width=225, least_height=least, least_width=least)
    pixels = decode(data, lambda height, width: crop)
    assert abs(pixels.shape[0] - side) <= 1
    assert pixels.shape[0] >= min(least, 225)
    shrunk = cv2.resize(decode(data)[60:285, 90:315], pixels.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert difference(pixels, shrunk) < 2


JPEG = encoded(Image.fromarray(smooth_image(600, 900)), "JPEG")
PNG = encoded(Image.fromarray(smooth_image(600, 900)), "PNG")


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty"),
        (b"a note, not an image\n", "not an image"),
        (JPEG[:2], "not an image"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (PNG[: len(PNG) // 2], "truncated"),
        (PNG[:60] + b"x" * 40 + PNG[100:], "broken|unrecognized|checksum"),
    ],
    ids=["empty", "text", "two bytes", "half a jpeg", "half a png", "damaged png"],
)
def test_what_is_no_whole_image_is_refused_in_one_line(data, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        decode(data)
    assert "\n" not in str(caught.value)
