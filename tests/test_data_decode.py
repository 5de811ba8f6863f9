import io
import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from lbsgd.data import decode as decoding
from lbsgd.data import turbojpeg
from lbsgd.data.decode import decode
from lbsgd.data.source import Crop


@pytest.fixture(params=["turbojpeg", "simplejpeg"])
def decoder(request, monkeypatch) -> str:
    """Both ways to a JPEG's pixels."""
    if request.param == "simplejpeg":
        monkeypatch.setattr(decoding, "library", lambda: None)
    else:
        assert turbojpeg.library() is not None
    return request.param


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
def test_a_crop_is_that_part_of_the_image(kind, decoder):
    data = encoded(Image.fromarray(smooth_image(60, 90)), kind)
    sizes = []

    def choose(height, width):
        sizes.append((height, width))
        return Crop(top=10, left=20, height=30, width=40, least_height=30, least_width=40)

    np.testing.assert_array_equal(decode(data, choose), decode(data)[10:40, 20:60])
    assert sizes[-1] == (60, 90)


def noisy_jpegs() -> list[bytes]:
    """An image whose every pixel matters, in every subsampling, baseline and progressive, with and without restarts."""
    noise = np.random.default_rng(0).integers(0, 256, (417, 331, 3), dtype=np.uint8)
    image = Image.fromarray(cv2.GaussianBlur(noise, (3, 3), 0))
    kinds = itertools.product(("4:4:4", "4:2:2", "4:2:0"), (False, True), ({}, {"restart_marker_rows": 3}))
    jpegs = [
        encoded(image, "JPEG", quality=90, subsampling=kind, progressive=progressive, **restarts)
        for kind, progressive, restarts in kinds
    ]
    return [*jpegs, encoded(image.convert("L"), "JPEG")]


NOISY = [(data, decode(data)) for data in noisy_jpegs()]


@pytest.mark.parametrize("number", range(len(NOISY)))
def test_a_crop_has_exactly_the_pixels_of_the_whole_image(number, decoder):
    data, pixels = NOISY[number]
    generator = np.random.default_rng(number)
    for _ in range(40):
        height, width = generator.integers(1, 418), generator.integers(1, 332)
        top, left = generator.integers(0, 418 - height), generator.integers(0, 332 - width)
        crop = Crop(*map(int, (top, left, height, width, height, width)))
        np.testing.assert_array_equal(decode(data, lambda *_, crop=crop: crop), pixels[top : top + height, left : left + width])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), number=st.integers(0, len(NOISY) - 1))
def test_reduced_crops_have_their_place_and_size(data, number):
    """Both decoders, at a half to an eighth: as the crop of the whole image, shrunk."""
    height, width = data.draw(st.integers(64, 417)), data.draw(st.integers(64, 331))
    top, left = data.draw(st.integers(0, 417 - height)), data.draw(st.integers(0, 331 - width))
    crop = Crop(top, left, height, width, height // 8, width // 8)
    pixels = decode(NOISY[number][0], lambda *_: crop)
    reduction = min((4, 8), key=lambda factor: abs(height / factor - pixels.shape[0]))  # 8, unless that is too small
    assert abs(pixels.shape[0] - height / reduction) <= 1
    assert abs(pixels.shape[1] - width / reduction) <= 1


@pytest.mark.parametrize("least, side", [(300, 225), (113, 225), (112, 113), (84, 99), (56, 56), (1, 28)])
def test_a_jpeg_is_decoded_at_the_least_resolution_that_suffices(least, side, decoder):
    """225 pixels of 375 x 500, at 1/1, 1/2, 3/8 (simplejpeg), 1/4 and 1/8 of the size: like the full one, shrunk."""
    data = encoded(Image.fromarray(smooth_image(375, 500)), "JPEG", quality=95)
    crop = Crop(top=60, left=90, height=225, width=225, least_height=least, least_width=least)
    pixels = decode(data, lambda height, width: crop)
    assert abs(pixels.shape[0] - side) <= (15 if least == 84 else 1)
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
