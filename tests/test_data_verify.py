import io
import json
import os
import shutil
import signal
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from lbsgd.data.pack import pack
from lbsgd.data.read_ahead import read_ahead
from lbsgd.data.source import UnreadableSample
from lbsgd.data.stored import open_stored
from lbsgd.data.synthetic import Shape, open_synthetic
from lbsgd.data.verify import Verified, verify
from lbsgd.errors import DataError

NOISE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


def encoded(format: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.fromarray(NOISE).convert(mode).save(file, format)
    return file.getvalue()


FINE = {
    "png.jpeg": encoded("PNG"),
    "cmyk.jpg": encoded("JPEG", "CMYK"),
    "gray.jpg": encoded("JPEG", "L"),
    "palette.png": encoded("PNG", "P"),
    "deep.png": encoded("PNG", "I;16"),
    "jpeg.png": encoded("JPEG"),
}
BROKEN = {
    "cut.jpg": encoded("JPEG")[:-500],
    "half.png": encoded("PNG")[:-500],
    "header.jpg": encoded("JPEG")[:20],
    "text.jpg": b"a note, not an image\n",
    "zeros.jpg": bytes(1000),
}


def make_folder(root: Path, files: dict[str, bytes]) -> Path:
    """The files in train/cat; what else is needed is one image."""
    for place in ("train/cat", "train/dog", "val/cat", "val/dog"):
        (root / place).mkdir(parents=True)
        (root / place / "fine.jpg").write_bytes(FINE["jpeg.png"])
    for name, content in files.items():
        (root / "train/cat" / name).write_bytes(content)
    return root


def verify_train(folder: Path, threads: int = 3) -> Verified:
    return verify(open_stored(folder)["train"], threads=threads, advance=lambda count: None)


def pack_folder(folder: Path, out: Path, format: str) -> Path:
    sources = {name: stored.source for name, stored in open_stored(folder).items()}
    pack(sources, out, format=format, shard_bytes=10**6, show_progress=lambda total, done: nullcontext(lambda count: None))
    return out


@pytest.mark.parametrize("threads", [1, 4])
def test_the_broken_ones_are_listed_in_order_and_no_other(tmp_path, threads):
    folder = make_folder(tmp_path, FINE | BROKEN | {"empty.jpg": b""})
    found = verify_train(folder, threads)
    expected = [str(folder / "train/cat" / name) for name in sorted([*BROKEN, "empty.jpg"])]
    assert [error.name for error in found.broken] == expected
    assert found.images == len(FINE) + len(BROKEN) + 3
    reasons = {Path(error.name).name: error.reason for error in found.broken}
    assert reasons["empty.jpg"] == "it is empty"
    assert reasons["text.jpg"] == "not an image"
    assert "truncated" in reasons["cut.jpg"]


@pytest.mark.parametrize("format", ["webdataset", "tfrecord"])
def test_shards_hold_the_same_broken_images(tmp_path, format):
    folder = make_folder(tmp_path / "folder", FINE | BROKEN)
    found = verify_train(pack_folder(folder, tmp_path / "shards", format))
    assert [Path(error.name).name for error in found.broken] == sorted(BROKEN)
    assert found.repeated == []


def test_an_image_in_a_record_that_differs_from_its_checksum(tmp_path):
    """The damage is beside the image, which can still be decoded."""
    folder = make_folder(tmp_path / "folder", {"a.jpg": FINE["gray.jpg"], "b.jpg": FINE["gray.jpg"]})
    shards = pack_folder(folder, tmp_path / "shards", "tfrecord")
    path = shards / "train-00000-of-00001"
    content = path.read_bytes()
    assert content.count(b"b.jpg") == 1
    path.write_bytes(content.replace(b"b.jpg", b"B.jpg"))
    (broken,) = verify_train(shards).broken
    assert broken.name == f"{path}:cat/B.jpg"
    assert broken.reason == "its record does not match the checksum"


def test_records_that_cannot_be_found_any_more(tmp_path):
    shards = pack_folder(make_folder(tmp_path / "folder", {}), tmp_path / "shards", "tfrecord")
    stored = open_stored(shards)["train"]
    with (shards / "train-00000-of-00001").open("r+b") as file:
        file.write(b"\xff" * 8)
    with pytest.raises(DataError, match="cannot use shard .*train-00000-of-00001.*record 0 is damaged"):
        verify(stored, threads=2, advance=lambda count: None)


def test_names_that_come_twice_in_shards(tmp_path, lbsgd):
    shards = pack_folder(make_folder(tmp_path / "folder", {}), tmp_path / "shards", "webdataset")
    shutil.copy(shards / "train/train-000000.tar", shards / "train/train-000001.tar")
    assert verify_train(shards).repeated == ["cat/fine.jpg", "dog/fine.jpg"]
    result = lbsgd("data", "verify", shards)
    assert result.code == 0
    assert result.stderr.splitlines() == ["warning: train has several images called 'cat/fine.jpg', 'dog/fine.jpg'"]


def test_an_image_that_vanished_or_became_a_fifo(tmp_path):
    folder = make_folder(tmp_path, {"a.jpg": FINE["gray.jpg"], "b.jpg": FINE["gray.jpg"]})
    stored = open_stored(folder)["train"]
    (folder / "train/cat/a.jpg").unlink()
    (folder / "train/cat/b.jpg").unlink()
    os.mkfifo(folder / "train/cat/b.jpg")
    found = verify(stored, threads=2, advance=lambda count: None)
    assert [(Path(error.name).name, error.reason) for error in found.broken] == [
        ("a.jpg", "No such file or directory"),
        ("b.jpg", "not a regular file"),
    ]


def test_a_read_that_blocks_is_an_outcome_among_the_others():
    source = open_synthetic(Shape(train=50, val=1, classes=2, size=1)).train
    forever = threading.Event()

    def read(sample: int) -> int:
        if sample in (3, 4, 20):
            forever.wait()
        if sample == 7:
            raise UnreadableSample("seven", "it is odd")
        return sample

    outcomes = dict(read_ahead(source, range(50), read, threads=2, timeout=0.2))
    forever.set()
    assert list(outcomes) == list(range(50))
    failed = {sample: outcome.reason for sample, outcome in outcomes.items() if outcome != sample}
    slow = "reading it has taken more than 0.2 s"
    assert failed == {3: slow, 4: slow, 20: slow, 7: "it is odd"}


def test_reading_ahead_has_a_limit():
    source = open_synthetic(Shape(train=1000, val=1, classes=2, size=1)).train
    seen = []
    outcomes = read_ahead(source, range(1000), seen.append, threads=2)
    next(outcomes)
    time.sleep(0.1)
    assert len(seen) < 50
    assert len(list(outcomes)) == 999


def test_the_command_lists_them_and_leaves_with_code_4(tmp_path, lbsgd):
    folder = make_folder(tmp_path, FINE | {"text.jpg": BROKEN["text.jpg"]})
    (folder / "val/dog/cut.jpg").write_bytes(BROKEN["cut.jpg"])
    result = lbsgd("data", "verify", folder, "--threads", 2)
    assert result.code == 4
    first, second, last = result.stdout.splitlines()
    assert first == f"train: {str(folder / 'train/cat/text.jpg')!r}: not an image"
    assert second.startswith(f"validation: {str(folder / 'val/dog/cut.jpg')!r}: ")
    assert last == f"{folder}: 12 images, 2 broken"
    assert result.stderr.startswith("Error: 2 of 12 images are broken")


def test_the_command_as_json(tmp_path, lbsgd):
    folder = make_folder(tmp_path, {"text.jpg": BROKEN["text.jpg"]})
    result = lbsgd("data", "verify", folder, "--json")
    assert result.code == 4
    name = str(folder / "train/cat/text.jpg")
    assert json.loads(result.stdout) == {
        "folder": str(folder),
        "images": 5,
        "broken": [{"split": "train", "name": name, "reason": "not an image"}],
        "repeated_names": {"train": [], "validation": []},
    }


def test_a_sound_folder_is_code_0_whatever_its_name(hostile_dir, lbsgd):
    result = lbsgd("data", "verify", make_folder(hostile_dir / "images", FINE))
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout.endswith("10 images, 0 broken\n")


def test_ctrl_c_ends_it_at_once(tmp_path, start, finish):
    folder = make_folder(tmp_path, {})
    Image.fromarray(np.tile(NOISE, (50, 50, 1))).save(folder / "train/cat/large.jpg")
    for number in range(400):
        (folder / f"train/cat/{number}.jpg").hardlink_to(folder / "train/cat/large.jpg")
    process = start("data", "verify", folder)
    watched = psutil.Process(process.pid)
    while watched.cpu_times().user < 1.5:  # so it decodes by now
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    result = finish(process, 20)
    assert (result.code, result.stdout) == (130, "")
    assert result.stderr.splitlines()[-1] == "Interrupted."  # on a slow machine a line of progress comes before
    assert "Traceback" not in result.stderr
