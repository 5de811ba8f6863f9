import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lbsgd.data.augmentation import (
    DRAWS,
    evaluation_image,
    nearest_crop,
    random_crop,
    resize,
    scaled,
    shift,
    training_image,
)
from lbsgd.data.source import ChooseCrop, Crop, cut
from lbsgd.policy.philox import Purpose, uniforms
from lbsgd.policy.recipe import Images

GRAY = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
IMAGENET = Images(**GRAY)
SMALL = Images(kind="small", size=8, padding=2, flip=False, **GRAY)
PIXELS = np.random.default_rng(0).integers(1, 256, (8, 8, 3), dtype=np.uint8)


class OneImage:
    """A source in which every sample is the same image."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def read(self, index: int, choose: ChooseCrop) -> np.ndarray:
        height, width, _ = self.pixels.shape
        return cut(self.pixels, choose(height, width), height, width)


def draws_of(sample: int, seed: int = 0, epoch: int = 0) -> list[float]:
    return uniforms(DRAWS, Purpose.AUGMENTATION, seed=seed, epoch=epoch, sample=sample)[1:]


def gradient(height: int, width: int) -> np.ndarray:
    down, across = np.mgrid[0:height, 0:width]
    return np.stack([255 * down / height, 255 * across / width, 0 * down + 99], axis=2).astype(np.uint8)


def test_crops_never_change():
    """Kept for ever, as the order is: a run resumed by another version sees the same pixels."""
    crops = [random_crop(375, 500, IMAGENET, draws_of(7, epoch=epoch)) for epoch in range(3)]
    boxes = [(crop.top, crop.left, crop.height, crop.width) for crop in crops]
    assert boxes == [(86, 216, 254, 214), (70, 271, 191, 184), (147, 72, 189, 168)]


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 2**63))
def test_a_crop_lies_within_the_image(height, width, sample):
    crop = random_crop(height, width, IMAGENET, draws_of(sample))
    assert 0 <= crop.top < crop.top + crop.height <= height
    assert 0 <= crop.left < crop.left + crop.width <= width
    assert (crop.least_height, crop.least_width) == (224, 224)


@given(st.integers(200, 1000), st.integers(200, 1000), st.integers(0, 2**63))
def test_area_and_aspect_ratio_are_in_the_recipes_ranges(height, width, sample):
    crop = random_crop(height, width, IMAGENET, draws_of(sample))
    rounding = 1 / min(crop.height, crop.width)
    assert 0.75 * (1 - 2 * rounding) <= crop.width / crop.height <= 4 / 3 * (1 + 2 * rounding)
    assert crop.height * crop.width >= 0.08 * height * width * (1 - 2 * rounding)


def test_area_and_log_aspect_ratio_are_uniform():
    """Up to half of a square fits with every ratio, so no try is turned down: both are plainly uniform."""
    settings = Images(area=(0.1, 0.5), **GRAY)
    crops = [random_crop(1000, 1000, settings, draws_of(sample)) for sample in range(4000)]
    areas = [(crop.height * crop.width / 1e6 - 0.1) / 0.4 for crop in crops]
    ratios = [(math.log(crop.width / crop.height) / math.log(4 / 3) + 1) / 2 for crop in crops]
    tops = [crop.top / (1000 - crop.height) for crop in crops]
    lefts = [crop.left / (1000 - crop.width) for crop in crops]
    levels = [0.1, 0.25, 0.5, 0.75, 0.9]
    for numbers in (areas, ratios, tops, lefts):
        np.testing.assert_allclose(np.quantile(numbers, levels), levels, atol=0.04)
    correlations = np.corrcoef([areas, ratios, tops, lefts]) - np.eye(4)
    assert abs(correlations).max() < 0.08


@pytest.mark.parametrize(
    "height, width, crop",
    [
        (100, 1000, (0, 433, 100, 133)),
        (1000, 100, (433, 0, 133, 100)),
        (100, 110, (0, 0, 100, 110)),
        (1, 1, (0, 0, 1, 1)),
    ],
)
def test_where_nothing_fits_the_centre_is_taken(height, width, crop):
    assert nearest_crop(height, width, IMAGENET) == Crop(*crop, 224, 224)


def test_an_image_too_long_for_any_try_gets_its_centre():
    assert random_crop(10, 5000, IMAGENET, draws_of(0)) == nearest_crop(10, 5000, IMAGENET)


@pytest.mark.parametrize("settings, size", [(IMAGENET, 224), (SMALL, 8)])
@pytest.mark.parametrize("shape", [(8, 8), (300, 200), (1, 40)])
def test_every_image_comes_in_the_size_asked_for(settings, size, shape):
    source = OneImage(gradient(*shape))
    for image in (
        training_image(source, 3, settings, seed=0, epoch=0),
        evaluation_image(source, 3, settings),
    ):
        assert image.shape == (size, size, 3)
        assert image.dtype == np.uint8


@pytest.mark.parametrize("settings", [IMAGENET, SMALL])
def test_seed_epoch_and_sample_alone_decide(settings):
    source = OneImage(np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8))

    def look(sample: int, seed: int, epoch: int) -> bytes:
        np.random.seed(sample)  # must not matter
        return training_image(source, sample, settings, seed=seed, epoch=epoch).tobytes()

    assert look(1, 2, 3) == look(1, 2, 3)
    assert len({look(sample, 2, 3) for sample in range(20)}) > 10
    assert len({look(1, seed, 3) for seed in range(20)}) > 10
    assert len({look(1, 2, epoch) for epoch in range(20)}) > 10


def test_half_of_the_images_are_mirrored():
    settings = Images(kind="small", size=8, flip=True, **GRAY)
    images = [training_image(OneImage(PIXELS), sample, settings, seed=0, epoch=0) for sample in range(400)]
    mirrored = [np.array_equal(image, PIXELS[:, ::-1]) for image in images]
    assert all(flip or np.array_equal(image, PIXELS) for flip, image in zip(mirrored, images, strict=True))
    assert 150 < sum(mirrored) < 250


def test_shifts_reach_every_place_and_uncover_black():
    padded = np.pad(PIXELS, ((2, 2), (2, 2), (0, 0)))
    possible = {padded[top : top + 8, left : left + 8].tobytes() for top in range(5) for left in range(5)}
    seen = {training_image(OneImage(PIXELS), i, SMALL, seed=0, epoch=0).tobytes() for i in range(400)}
    assert seen == possible


def test_a_shift_of_nothing_changes_nothing():
    np.testing.assert_array_equal(shift(PIXELS, 0, 0.99, 0.01), PIXELS)


def test_small_images_are_evaluated_as_they_are():
    np.testing.assert_array_equal(evaluation_image(OneImage(PIXELS), 0, SMALL), PIXELS)


@pytest.mark.parametrize("shape", [(375, 500), (500, 333), (256, 256), (224, 900), (100, 130)])
def test_evaluation_takes_the_centre_of_the_resized_image(shape):
    """Beside Pillow's resize with a filter of the same support."""
    pixels = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8), (0, 0), 4)
    height, width = scaled(*shape, 256)
    reference = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
    top, left = (height - 224) // 2, (width - 224) // 2
    image = evaluation_image(OneImage(pixels), 0, IMAGENET)
    assert abs(image.astype(int) - reference[top : top + 224, left : left + 224]).mean() < 1


@pytest.mark.parametrize(
    "height, width, result",
    [(375, 500, (256, 341)), (500, 375, (341, 256)), (300, 300, (256, 256)), (2, 1, (512, 256))],
)
def test_the_short_side_is_scaled(height, width, result):
    assert scaled(height, width, 256) == result


def test_shrinking_averages():
    board = np.indices((8, 8)).sum(axis=0) % 2 * 255
    pixels = np.repeat(board.astype(np.uint8)[:, :, np.newaxis], 3, axis=2)
    assert np.unique(resize(pixels, 4, 4)).tolist() == [128]
