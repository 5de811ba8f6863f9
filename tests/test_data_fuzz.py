"""2,000 damaged files: none may crash or stop the pipeline, and each unreadable one is counted."""

import io
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lbsgd.data import open_dataset
from lbsgd.data.bad_samples import BadSamplePolicy, BadSamples
from lbsgd.data.batch import Reading, Share
from lbsgd.data.loader import evaluation_batches, training_batches
from lbsgd.data.source import UnreadableSample
from lbsgd.policy.order import Order
from lbsgd.policy.recipe import load_recipe

FILES = 2000
SETTINGS = load_recipe("goyal2017", ["images.size=32", "images.evaluation_resize=36"]).images


def originals(rng: np.random.Generator) -> list[bytes]:
    """One image in every encoding that the decoder treats differently."""
    noise = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((96, 72), Image.BICUBIC)
    encodings = [
        ("JPEG", image, {"quality": 95, "subsampling": "4:4:4"}),
        ("JPEG", image, {"quality": 80, "subsampling": "4:2:0"}),
        ("JPEG", image, {"quality": 90, "progressive": True}),
        ("JPEG", image, {"quality": 90, "restart_marker_rows": 1}),
        ("JPEG", image.convert("L"), {}),
        ("JPEG", image.convert("CMYK"), {}),
        ("PNG", image, {}),
        ("PNG", image.convert("P"), {}),
        ("PNG", Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), {}),
    ]
    return [encode(picture, kind, **options) for kind, picture, options in encodings]


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def damaged(data: bytes, rng: np.random.Generator, kind: int) -> bytes:
    """kind 0: bits flipped anywhere; 1: cut short; 2: bytes of the header overwritten."""
    if kind == 1:
        return data[: rng.integers(0, len(data))]
    copy = bytearray(data)
    for _ in range(rng.integers(1, 12)):
        if kind == 0:
            copy[rng.integers(0, len(copy))] ^= 1 << rng.integers(0, 8)
        else:
            copy[rng.integers(0, min(600, len(copy)))] = rng.integers(0, 256)
    return bytes(copy)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Half of FILES for training, half for validation."""
    root, rng = tmp_path_factory.mktemp("damaged"), np.random.default_rng(0)
    intact = originals(rng)
    for number in range(FILES):
        path = root / ("train", "val")[number % 2] / f"class{number % 4 // 2}" / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damaged(intact[number % len(intact)], rng, kind=number // 4 % 3))
    return root


def unreadable(source, read) -> Counter:
    """Which samples fail, and how often, when each is read once."""
    failed = Counter()
    for sample in range(len(source)):
        try:
            read(sample)
        except UnreadableSample:
            failed[sample] += 1
    return failed


def test_validation_leaves_out_exactly_the_unreadable_ones(folder):
    source = open_dataset(str(folder)).validation
    bad_samples = BadSamples(BadSamplePolicy(replace=True))
    batches = evaluation_batches(source, SETTINGS, 50, Share(), Reading(2), bad_samples=bad_samples)
    counted = sum(batch.valid for batch in batches)
    expected = unreadable(source, source.read)
    assert set(bad_samples.known) == set(expected)
    assert counted == len(source) - len(expected)
    assert 300 < len(expected) < 900  # a third was cut short, and some damage does not show


def test_training_replaces_them_and_goes_on(folder):
    source = open_dataset(str(folder)).train
    bad_samples = BadSamples(BadSamplePolicy(replace=True))
    order = Order(seed=1, samples=len(source), global_batch=50)
    two_epochs = range(2 * order.iterations_per_epoch)
    batches = training_batches(source, SETTINGS, order, Share(), two_epochs, Reading(2), bad_samples=bad_samples)
    assert sum(batch.valid for batch in batches) == 2 * len(source)
    assert 300 < len(bad_samples.known) < 900
    for error in bad_samples.known.values():
        assert error.name.startswith(str(folder / "train"))
        assert error.reason and "\n" not in error.reason


def test_a_file_that_claims_to_be_huge_is_refused_before_it_is_unpacked(tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / name / "0.png")
    bomb = bytearray(encode(Image.new("L", (8, 8)), "PNG"))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    crc = zlib.crc32(bytes(bomb[12:29]))
    bomb[29:33] = crc.to_bytes(4, "big")
    (tmp_path / "train/cat/0.png").write_bytes(bomb)
    jpeg = bytearray(encode(Image.new("L", (8, 8)), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = (60_000).to_bytes(2, "big") * 2
    (tmp_path / "train/dog/0.png").write_bytes(jpeg)
    source = open_dataset(str(tmp_path)).train
    for sample in (0, 1):
        with pytest.raises(UnreadableSample, match="60000 x 60000 pixels are more than the limit"):
            source.read(sample)
