"""DALI's batches against those of the threads. What is marked `dali` needs NVIDIA DALI, not a GPU."""

import gc
import io
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from lbsgd.data import dali, loader
from lbsgd.data.augmentation import training_image
from lbsgd.data.bad_samples import BadSamplePolicy, BadSamples
from lbsgd.data.folder import index_folder
from lbsgd.data.layout import Split
from lbsgd.data.loader import Batch
from lbsgd.data.memory import MemoryCache
from lbsgd.data.source import Source, UnreadableSample
from lbsgd.data.storage import EncodedSource, Files
from lbsgd.data.synthetic import SyntheticSource
from lbsgd.errors import EnvironmentNotReady, UsageError
from lbsgd.order import Order
from lbsgd.recipe import Images

SETTINGS = Images(kind="imagenet", size=64, evaluation_resize=72, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
SAMPLES = 30
ORDER = Order(seed=3, samples=SAMPLES, global_batch=12)
OTHERS = ("progressive.jpg", "rotated.jpg", "gray.jpg", "cmyk.jpg", "16 bit.png", "a png.jpeg")
"""The last images; those before are plain JPEGs."""

LEFT_TO_THREADS = {SAMPLES - 3, SAMPLES - 2, SAMPLES - 1}


without_help = pytest.mark.filterwarnings("error:DALI cannot decode")
"""Threads that stepped in would hide what DALI does wrong."""


def smooth(number: int) -> np.ndarray:
    """A colour photograph out of focus."""
    random = np.random.default_rng(number)
    height, width = random.integers(80, 400, 2).tolist()
    blobs = random.integers(0, 256, (5, 5, 3)).astype(np.float32)
    return cv2.resize(blobs, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def write_image(path: Path, number: int) -> None:
    image = Image.fromarray(smooth(number))
    exif = Image.Exif()
    exif[0x0112] = 6
    match path.name:
        case "progressive.jpg":
            image.save(path, progressive=True, quality=92)
        case "rotated.jpg":
            image.save(path, exif=exif, quality=92)
        case "gray.jpg":
            image.convert("L").save(path, quality=92)
        case "cmyk.jpg":
            image.convert("CMYK").save(path, quality=92)
        case "16 bit.png":
            cv2.imwrite(str(path), smooth(number)[:, :, 0].astype(np.uint16) * 257)
        case "a png.jpeg":
            image.save(path, "PNG")
        case _:
            path.write_bytes(simplejpeg.encode_jpeg(smooth(number), quality=92, colorsubsampling="420"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Each image is a class of its own, so that labels tell what was read."""
    for number in range(SAMPLES):
        plain = SAMPLES - len(OTHERS)
        path = tmp_path / f"{number:02}" / (OTHERS[number - plain] if number >= plain else "plain.jpg")
        path.parent.mkdir()
        write_image(path, number)
    return tmp_path


def encoded(folder: Path) -> EncodedSource:
    index = index_folder(Split("train", "folder", folder, folder))
    return EncodedSource(index, Files(folder, index))


def train(module, source: Source, rank=0, world_size=1, start=0, stop=6, bad_samples=None):
    options = {"device_id": None} if module is dali else {}
    return module.training_batches(
        source,
        SETTINGS,
        ORDER,
        rank=rank,
        world_size=world_size,
        start_iteration=start,
        stop_iteration=stop,
        threads=2,
        bad_samples=bad_samples,
        **options,
    )


def copies(batches: Iterable[Batch]) -> list[Batch]:
    return [replace(batch, images=batch.images.copy()) for batch in batches]


def together(batches: Iterable[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """All images and all labels, one after the other."""
    kept = copies(batches)
    return np.concatenate([batch.images for batch in kept]), np.concatenate([batch.labels for batch in kept])


def differences(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each image, in grey levels."""
    return np.abs(one.astype(np.int16) - other).mean((1, 2, 3))


def assert_close(one: np.ndarray, other: np.ndarray) -> None:
    assert (one.shape, one.dtype) == (other.shape, other.dtype)
    found = differences(one, other)
    assert found.mean() < 1.5
    assert found.max() < 5  # a part is cut out of a smaller image to whole pixels


@pytest.mark.dali
@without_help
def test_batches_are_those_of_the_threads(folder):
    source = encoded(folder)
    images, labels = together(train(dali, source))
    expected, expected_labels = together(train(loader, source))
    np.testing.assert_array_equal(labels, expected_labels)
    assert set(labels.tolist()) >= LEFT_TO_THREADS
    assert labels.dtype == np.int64
    assert_close(images, expected)
    left = np.isin(labels, list(LEFT_TO_THREADS))
    np.testing.assert_array_equal(images[left], expected[left])


@pytest.mark.dali
@without_help
def test_nothing_is_shifted(folder):
    source = encoded(folder)
    images, _ = together(train(dali, source))
    expected, _ = together(train(loader, source))
    inner = np.s_[:, 1:-1, 1:-1]
    shifts = [(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    errors = [differences(np.roll(images, shift, (1, 2))[inner], expected[inner]).mean() for shift in shifts]
    assert shifts[int(np.argmin(errors))] == (0, 0)


@pytest.mark.dali
@without_help
def test_what_shrinks_does_not_alias(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 1), np.uint8).repeat(3, axis=2)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(simplejpeg.encode_jpeg(noise, quality=95))
    whole = SETTINGS.model_copy(update={"area": (1.0, 1.0), "aspect_ratio": (1.0, 1.0)})
    share = {"rank": 0, "world_size": 1, "start_iteration": 0, "stop_iteration": 1, "threads": 1, "device_id": None}
    (batch,) = dali.training_batches(encoded(tmp_path), whole, Order(0, 2, 2), **share)
    assert batch.images.std() < noise.std() / 8


@pytest.mark.dali
@pytest.mark.parametrize("world_size", [2, 3, 12])
def test_any_number_of_ranks_sees_the_same_global_batches(folder, world_size):
    source = encoded(folder)
    ranks = [copies(train(dali, source, rank, world_size)) for rank in range(world_size)]
    images, labels = together(train(dali, source))
    np.testing.assert_array_equal(np.concatenate([batch.images for row in zip(*ranks, strict=True) for batch in row]), images)
    np.testing.assert_array_equal(np.concatenate([batch.labels for row in zip(*ranks, strict=True) for batch in row]), labels)


@pytest.mark.dali
@pytest.mark.parametrize("start", [1, 5, 6])
def test_a_run_may_start_in_the_middle(folder, start):
    source = encoded(folder)
    batches, later = copies(train(dali, source)), copies(train(dali, source, start=start))
    assert len(later) == 6 - start
    for one, other in zip(later, batches[start:], strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)


@pytest.mark.dali
def test_a_batch_stays_until_the_second_next_is_asked_for(folder):
    previous = None
    for batch in train(dali, encoded(folder), stop=20):
        if previous is not None:
            np.testing.assert_array_equal(*previous)
        previous = batch.images, batch.images.copy()


def damage(path: Path, kind: str) -> None:
    data = path.read_bytes()
    scan = data.index(b"\xff\xda") + 6
    damaged = {
        "empty": b"",
        "text": b"a note, not an image\n",
        "truncated": data[: len(data) // 2],
        "unknown tables": data[:scan] + b"\x33" + data[scan + 1 :],  # seen by none but a decoder
    }
    path.write_bytes(damaged[kind])


def damage_three(folder: Path, kind: str) -> EncodedSource:
    for number in (4, 11, 17):
        damage(folder / f"{number:02}" / "plain.jpg", kind)
    return encoded(folder)


@pytest.mark.dali
@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "unknown tables"])
@pytest.mark.filterwarnings("ignore:DALI cannot decode")
def test_unreadable_images_are_replaced_as_by_the_threads(folder, kind):
    source = damage_three(folder, kind)
    found, expected = BadSamples(BadSamplePolicy(replace=True)), BadSamples(BadSamplePolicy(replace=True))
    images, labels = together(train(dali, source, bad_samples=found))
    expected_images, expected_labels = together(train(loader, source, bad_samples=expected))
    np.testing.assert_array_equal(labels, expected_labels)
    assert_close(images, expected_images)
    assert found.known.keys() == expected.known.keys() == {4, 11, 17}
    assert found.take_new() == expected.take_new()


@pytest.mark.dali
def test_that_dali_cannot_decode_is_said(folder):
    with pytest.warns(UserWarning, match="left to threads"):
        copies(train(dali, damage_three(folder, "unknown tables"), bad_samples=BadSamples(BadSamplePolicy(replace=True))))


@pytest.mark.dali
@pytest.mark.parametrize("kind", ["truncated", "unknown tables"])
@pytest.mark.filterwarnings("ignore:DALI cannot decode")
def test_an_unreadable_image_ends_the_batches_where_it_belongs(folder, kind):
    bad = next(sample for sample in ORDER.samples_of(1).tolist() if sample < SAMPLES - len(OTHERS))
    damage(folder / f"{bad:02}" / "plain.jpg", kind)
    batches = train(dali, encoded(folder))
    assert next(batches).labels.tolist() == ORDER.samples_of(0).tolist()
    with pytest.raises(UnreadableSample, match=f"/{bad:02}/"):
        next(batches)
    assert readers() == []


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("lbsgd-data")]


def threads() -> int:
    """Those of DALI included, which Python does not know of."""
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.dali
def test_closing_early_leaves_no_thread_behind(folder):
    source = encoded(folder)
    list(train(dali, source))  # what DALI starts once stays
    before = threads()
    batches = train(dali, source, stop=10**6)
    next(batches)
    assert len(readers()) == 2
    assert threads() > before + 2
    batches.close()
    gc.collect()
    assert readers() == []
    assert threads() <= before


@pytest.mark.dali
def test_small_data_sets_are_decoded_too(folder):
    source = encoded(folder)
    _, labels = together(train(dali, MemoryCache(source), stop=2))
    assert labels.tolist() == np.concatenate([ORDER.samples_of(0), ORDER.samples_of(1)]).tolist()


@pytest.mark.dali
def test_dali_is_there_and_has_something_to_decode(folder):
    dali.require_dali(encoded(folder), SETTINGS)


def test_without_dali_the_environment_is_not_ready(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(EnvironmentNotReady, match=r"pip install 'lbsgd\[dali\]'"):
        dali.require_dali(encoded(folder), SETTINGS)


def test_what_dali_would_not_decode_is_refused(folder):
    with pytest.raises(UsageError, match="synthetic"):
        dali.require_dali(SyntheticSource(8, 2, 64, 0), SETTINGS)
    with pytest.raises(UsageError, match="the recipe has small"):
        dali.require_dali(encoded(folder), SETTINGS.model_copy(update={"kind": "small"}))


def test_crops_and_flips_are_those_of_the_threads(folder):
    source = encoded(folder)
    for sample in range(SAMPLES):
        image = dali.encoded_image(source, sample, SETTINGS, seed=3, epoch=1)
        (top, left), (height, width) = image.corner, image.extent
        pixels = Image.open(io.BytesIO(image.data)).convert("RGB")
        pixels = np.asarray(pixels.resize((64, 64), Image.Resampling.BILINEAR, (left, top, left + width, top + height)))
        pixels = pixels[:, ::-1] if image.flipped else pixels
        expected = training_image(source, sample, SETTINGS, seed=3, epoch=1)
        assert differences(pixels[np.newaxis], expected[np.newaxis]) < 5


def test_only_plain_whole_jpegs_go_to_dali(folder):
    sizes = [dali.jpeg_size(encoded(folder).encoded(sample)) for sample in range(SAMPLES)]
    assert {sample for sample, size in enumerate(sizes) if size is None} == LEFT_TO_THREADS
    assert sizes[0] == smooth(0).shape[:2]
    data = encoded(folder).encoded(0)
    assert dali.jpeg_size(data[:-2]) is None
    assert dali.jpeg_size(data[:100]) is None
