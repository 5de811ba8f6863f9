import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.data.index import Index
from lbsgd.data.pack import pack, shard_ranges
from lbsgd.data.shard_formats import member_names
from lbsgd.data.source import UnreadableSample
from lbsgd.data.stored import open_stored
from lbsgd.errors import DataError, EnvironmentNotReady, UsageError

FORMATS = ("webdataset", "tfrecord")
CLASSES = ["plain", "with space", 'quo\'te "double"', "ünïcödé 猫", "$(echo no); rm", "a:b,c=d", "dots.in.it", "x" * 200]
FILES = ["0.jpg", "UPPER.JPEG", "a.b.jpg", "a_b.jpg", "a_b-2.jpg", "same.jpg", "same.png", "new\nline.png", "y" * 240 + ".jpg"]


def make_images(root: Path, classes=("cat", "dog"), files=("0.jpg", "1.jpg", "2.png"), size: int = 700) -> Path:
    """Files of random bytes, each of another size: packing looks into none of them."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for file in files:
                (root / split / name / file).write_bytes(random.bytes(size + int(random.integers(1000))))
    return root


def sources(folder: Path) -> dict:
    return {name: stored.source for name, stored in open_stored(folder).items()}


@contextmanager
def silent(total: int, done: int):
    yield lambda count: None


def pack_folder(source: Path, out: Path, format: str = "webdataset", shard_bytes: int = 10_000, show_progress=silent):
    return pack(sources(source), out, format=format, shard_bytes=shard_bytes, show_progress=show_progress)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def stamp(path: Path) -> tuple[int, int]:
    """What changes when a file is written again."""
    return path.stat().st_ino, path.stat().st_mtime_ns


def stamps_of_shards(folder: Path) -> dict[str, tuple[int, int]]:
    """Of the complete ones."""
    shards = (path for split in ("train", "val") for path in (*folder.glob(f"{split}*-*"), *folder.glob(f"{split}/*.tar")))
    return {str(path): stamp(path) for path in shards}


def images(folder: Path) -> list[tuple]:
    """Label, class and bytes of each image of both splits, in order."""
    return [
        (int(source.labels[i]), source.classes[source.labels[i]], source.encoded(i))
        for source in sources(folder).values()
        for i in range(len(source))
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_what_was_packed_is_what_was_there(tmp_path, format):
    source = make_images(tmp_path / "source")
    packed = pack_folder(source, tmp_path / "out", format)
    assert packed.shards == packed.written > 2
    assert images(tmp_path / "out") == images(source)
    digests = [[split.digest for split in sources(folder).values()] for folder in (source, tmp_path / "out")]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("format", FORMATS)
def test_names_may_be_anything(tmp_path, format):
    names = [*FILES, os.fsdecode(b"not utf-8 \xff.jpg")]
    source = make_images(tmp_path / "source", [*CLASSES, os.fsdecode(b"\xff\xfe")], names)
    pack_folder(source, tmp_path / "out", format)
    assert images(tmp_path / "out") == images(source)


@pytest.mark.parametrize("format", FORMATS)
def test_the_folder_may_be_called_anything(hostile_dir, format):
    source = make_images(hostile_dir / "source")
    pack_folder(source, hostile_dir / "out", format)
    assert images(hostile_dir / "out") == images(source)


def test_shards_may_be_packed_again(tmp_path):
    """From folder to TFRecord to tar gives the bytes that from folder to tar does."""
    source = make_images(tmp_path / "source")
    pack_folder(source, tmp_path / "tar")
    pack_folder(source, tmp_path / "tfrecord", "tfrecord")
    pack_folder(tmp_path / "tfrecord", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "tar")


def test_the_files_of_webdataset(tmp_path):
    source = make_images(tmp_path / "source", files=("0.jpg", "a.b.jpg", "a_b.png"))
    pack_folder(source, tmp_path / "out", shard_bytes=10**9)
    assert sorted(contents(tmp_path / "out")) == [
        ".lbsgd-pack.json", "train/classes.txt", "train/train-000000.tar", "val/classes.txt", "val/val-000000.tar",
    ]  # fmt: skip
    assert (tmp_path / "out/train/classes.txt").read_text() == "cat\ndog\n"
    with tarfile.open(tmp_path / "out/train/train-000000.tar") as archive:
        members = archive.getmembers()
        labels = [archive.extractfile(member).read() for member in members[1::2]]
    assert [member.name for member in members] == [
        "cat/0.jpg", "cat/0.cls", "cat/a_b.jpg", "cat/a_b.cls", "cat/a_b-2.png", "cat/a_b-2.cls",
        "dog/0.jpg", "dog/0.cls", "dog/a_b.jpg", "dog/a_b.cls", "dog/a_b-2.png", "dog/a_b-2.cls",
    ]  # fmt: skip
    assert labels == [b"0"] * 3 + [b"1"] * 3
    assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in members} == {(0, 0, 0, "", 0o644)}


def test_the_files_of_tfrecord(tmp_path):
    pack_folder(make_images(tmp_path / "source"), tmp_path / "out", "tfrecord", shard_bytes=6000)
    names = [name for name in sorted(contents(tmp_path / "out")) if "-of-" in name]
    assert names == [f"{split}-{number:05}-of-00002" for split in ("train", "validation") for number in range(2)]


def test_tensorflow_reads_the_records(tmp_path):
    source = make_images(tmp_path / "source", files=("0.jpg", "1.png"))
    pack_folder(source, tmp_path / "out", "tfrecord")
    (tmp_path / "read.py").write_text(
        "import sys, tensorflow as tf\n"
        "kinds = {'image/encoded': tf.string, 'image/class/label': tf.int64, 'image/class/synset': tf.string,\n"
        "         'image/filename': tf.string, 'image/format': tf.string}\n"
        "features = {name: tf.io.FixedLenFeature([], kind) for name, kind in kinds.items()}\n"
        "for record in tf.data.TFRecordDataset(sys.argv[1:]):\n"
        "    example = tf.io.parse_single_example(record, features)\n"
        "    image, label, *texts = (example[name].numpy() for name in kinds)\n"
        "    print([image, int(label), *texts])\n"
    )
    shards = sorted((tmp_path / "out").glob("*-of-*"))
    done = subprocess.run([sys.executable, tmp_path / "read.py", *shards], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = [
        [image, label + 1, name.encode(), file.encode(), kind]
        for (label, name, image), (file, kind) in zip(images(source), [("0.jpg", b"JPEG"), ("1.png", b"PNG")] * 4, strict=True)
    ]
    assert done.stdout.splitlines() == [str(row) for row in expected]


@given(st.lists(st.integers(1, 50), min_size=1), st.integers(1, 100))
def test_shards_hold_every_sample_once_in_order(sizes, limit):
    ranges = list(shard_ranges(np.cumsum(sizes), limit))
    assert [sample for samples in ranges for sample in samples] == list(range(len(sizes)))
    for samples, following in zip(ranges, [*ranges[1:], range(0)], strict=True):
        taken = sum(sizes[i] for i in samples)
        assert taken <= limit or len(samples) == 1
        assert not following or taken + sizes[following[0]] > limit


FILE_NAMES = st.text(st.sampled_from("ab._-2/\0") | st.characters(codec="utf-8"), max_size=6)


@given(st.lists(st.tuples(st.integers(0, 3), FILE_NAMES, st.sampled_from([".jpg", ".PNG", ".tif", ""])), min_size=1))
def test_keys_are_unique_and_end_at_the_first_dot(samples):
    classes = ("cat", "..", "a/b", ".hidden")
    names = [f"{classes[label]}/{stem}{suffix}" for label, stem, suffix in samples]
    members = list(member_names(Index.of(classes, [label for label, _, _ in samples], names, [1] * len(names))))
    keys = [(folder, base.partition(".")[0]) for folder, _, base in (member.rpartition("/") for member in members)]
    assert len(set(keys)) == len(samples)
    assert {folder for folder, _ in keys} <= {"cat", "_.", "a_b", "_hidden"}
    assert all(member.count(".") - member.rpartition("/")[0].count(".") == 1 for member in members)
    assert all(member.lower().endswith((".jpg", ".jpeg", ".png")) and "\0" not in member for member in members)


def test_one_name_for_all_files_takes_no_quadratic_time():
    names = ["cat/image.jpg"] * 20_000
    started = time.process_time()
    members = list(member_names(Index.of(("cat", "dog"), [0] * len(names), names, [1] * len(names))))
    assert len(set(members)) == len(names)
    assert time.process_time() - started < 5


def test_an_unfinished_pack_is_no_data_set(tmp_path):
    pack_folder(make_images(tmp_path / "images"), tmp_path / "out")
    (tmp_path / "out/val/classes.txt").unlink()
    with pytest.raises(DataError, match="not finished; run the same `lbsgd data pack` again"):
        open_stored(tmp_path / "out")


@pytest.mark.parametrize("format", FORMATS)
def test_killed_packs_go_on_to_the_same_bytes(tmp_path, start, lbsgd, format):
    source = make_images(tmp_path / "source", files=[f"{i}.jpg" for i in range(12)], size=990_000)
    arguments = ["data", "pack", source, tmp_path / "out", "--format", format, "--shard-mb", 1]
    pack_folder(source, tmp_path / "whole", format, 10**6)
    kept = {}
    for count in (3, 15):
        process = start(*arguments)
        while len(found := stamps_of_shards(tmp_path / "out")) < count:
            assert process.poll() is None, process.communicate()
            time.sleep(0.001)
        process.kill()
        process.communicate()
        assert kept.items() <= found.items()
        assert len(stamps_of_shards(tmp_path / "out")) < 48
        kept = found
    assert lbsgd(*arguments).code == 0
    assert kept.items() <= stamps_of_shards(tmp_path / "out").items()
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_ctrl_c_leaves_what_the_next_run_goes_on_from(tmp_path, start, finish, lbsgd):
    source = make_images(tmp_path / "source", files=[f"{i}.jpg" for i in range(12)], size=990_000)
    arguments = ["data", "pack", source, tmp_path / "out", "--shard-mb", 1]
    process = start(*arguments)
    while len(stamps_of_shards(tmp_path / "out")) < 3:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    result = finish(process, 10)
    assert (result.code, result.stdout) == (130, "")
    assert result.stderr.splitlines()[-1] == "Interrupted."  # on a slow machine a line of progress comes before
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "out").rglob(".*.partial"))
    assert lbsgd(*arguments).code == 0
    assert images(tmp_path / "out") == images(source)


def test_a_finished_pack_is_left_alone(tmp_path):
    source = make_images(tmp_path / "source")
    first = pack_folder(source, tmp_path / "out")
    before = {path: stamp(path) for path in (tmp_path / "out").rglob("*")}
    again = pack_folder(source, tmp_path / "out")
    assert (again.written, again.shards) == (0, first.written)
    assert {path: stamp(path) for path in (tmp_path / "out").rglob("*")} == before


def test_progress_counts_what_is_there_already(tmp_path):
    source, seen = make_images(tmp_path / "source"), []

    @contextmanager
    def record(total: int, done: int):
        seen.append([total, done])
        yield lambda count: seen[-1].append(count)

    pack_folder(source, tmp_path / "out", show_progress=record)
    (tmp_path / "out/train/train-000001.tar").unlink()
    pack_folder(source, tmp_path / "out", show_progress=record)
    first, second = seen
    assert first == [12, 0, *[1] * 12]
    assert second[0] == 12 and second[1] + sum(second[2:]) == 12 and len(second) < 8


@pytest.mark.parametrize("change", [{"format": "tfrecord"}, {"shard_bytes": 9000}, {"source": "other"}])
def test_another_pack_in_the_same_folder_is_refused(tmp_path, change):
    make_images(tmp_path / "source")
    make_images(tmp_path / "other", size=701)
    pack_folder(tmp_path / "source", tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(UsageError, match="was packed from other images, in another format or with another shard size"):
        pack_folder(tmp_path / change.pop("source", "source"), tmp_path / "out", **change)
    assert contents(tmp_path / "out") == before


def test_a_folder_with_something_else_is_refused_and_kept(tmp_path):
    source = make_images(tmp_path / "source")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("the only copy")
    with pytest.raises(UsageError, match="thesis.txt"):
        pack_folder(source, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_two_packs_at_once(tmp_path):
    source = make_images(tmp_path / "source")
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out/.lbsgd-pack.lock"), pytest.raises(UsageError, match="another process"):
        pack_folder(source, tmp_path / "out")


@pytest.mark.parametrize("place", ["file", "file/out", "/proc/out"])
def test_a_place_that_cannot_be_written_to(tmp_path, place):
    source = make_images(tmp_path / "source")
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentNotReady, match="cannot write to") as caught:
        pack_folder(source, tmp_path / place)
    assert "\n" not in str(caught.value)


def test_too_little_space_is_said_before_the_start(tmp_path):
    source = make_images(tmp_path / "source")
    os.truncate(source / "train/cat/0.jpg", 2**43)  # a hole
    with pytest.raises(EnvironmentNotReady, match="8796.0. GB do not fit"):
        pack_folder(source, tmp_path / "out")
    assert list(contents(tmp_path / "out")) == []


def test_a_disk_that_fills_up_leaves_no_part_of_a_shard(tmp_path):
    """The limit on file sizes stands in for a full disk."""
    source = make_images(tmp_path / "source")
    code = (
        "import resource, sys; from lbsgd.cli import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000)); sys.argv = sys.argv[1:]; main()"
    )
    command = [sys.executable, "-B", "-c", code, "lbsgd", "data", "pack", source, tmp_path / "out"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 3
    assert "the same command resumes" in result.stderr
    assert not list((tmp_path / "out").rglob("*.tar*"))


def test_an_image_that_vanished_ends_the_pack_which_then_goes_on(tmp_path):
    source = make_images(tmp_path / "source")
    splits = sources(source)
    image = (source / "train/dog/2.png").rename(tmp_path / "elsewhere")
    with pytest.raises(UnreadableSample, match=r"train/dog/2.png.*No such file"):
        pack(splits, tmp_path / "out", format="webdataset", shard_bytes=10_000, show_progress=silent)
    assert not list((tmp_path / "out").rglob(".*.partial"))
    image.rename(source / "train/dog/2.png")
    assert pack_folder(source, tmp_path / "out").written < 4
    assert images(tmp_path / "out") == images(source)


def test_a_class_with_a_line_break_has_no_place_in_a_list(tmp_path):
    source = make_images(tmp_path / "source", ("cat", "new\nline"))
    with pytest.raises(DataError, match=r"class 'new\\nline' has a line break"):
        pack_folder(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_class_without_images(tmp_path):
    """WebDataset lists it; TFRecord files would give the classes after it other labels."""
    pack_folder(make_images(tmp_path / "source"), tmp_path / "out")
    for split in ("train", "val"):
        (tmp_path / "out" / split / "classes.txt").write_text("cat\ndog\nemu\n")
    pack_folder(tmp_path / "out", tmp_path / "again")
    assert images(tmp_path / "again") == images(tmp_path / "out")
    with pytest.raises(DataError, match="'emu' of train"):
        pack_folder(tmp_path / "out", tmp_path / "tfrecord", "tfrecord")


def test_the_record_says_what_was_packed(tmp_path):
    source = make_images(tmp_path / "source")
    pack_folder(source, tmp_path / "out")
    record = json.loads((tmp_path / "out/.lbsgd-pack.json").read_text())
    assert record["source"] == {name: split.digest for name, split in sources(source).items()}
    assert (record["format"], record["shard_bytes"]) == ("webdataset", 10_000)
