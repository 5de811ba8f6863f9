import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.data import index_cache, open_dataset
from lbsgd.data.formats import build_index
from lbsgd.data.index import Index, Names
from lbsgd.data.index_cache import cached, user_path, write_index
from lbsgd.data.layout import Split, find_splits
from lbsgd.data.tfrecord_format import encode_example, write_record
from lbsgd.errors import DataError, EnvironmentNotReady

names = st.lists(st.binary(max_size=30).map(os.fsdecode) | st.text(st.characters(exclude_categories=["Cs"]), max_size=30))


@given(names)
def test_names_are_what_went_in(texts):
    packed = Names.of(iter(texts))
    assert len(packed) == len(texts)
    assert [packed[index] for index in range(len(texts))] == texts
    assert (packed.text.dtype, packed.ends.dtype) == (np.uint8, np.int64)


def test_the_digest_tells_every_difference():
    whole = {"classes": ["a", "b"], "labels": [0, 1], "names": ["a/0", "b/0"], "sizes": [5, 6]}
    variants = [
        {},
        {"classes": ["ab", ""]},
        {"classes": ["a", "b", "c"]},
        {"labels": [1, 0]},
        {"names": ["a/0b", "/0"]},
        {"sizes": [6, 5]},
        {"labels": [0], "names": ["a/0"], "sizes": [5]},
    ]
    digests = {Index.of(**whole | changed).digest for changed in variants}
    assert len(digests) == len(variants)
    placed = Index.of(**whole, shards=["x"], shard_of=[0, 0], offsets=[0, 5])
    assert placed.digest == Index.of(**whole).digest


class Builder:
    """Builds indexes, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, split: Split) -> Index:
        self.calls += 1
        return build_index(split)


@pytest.fixture(autouse=True)
def _cache_of_this_test(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def kept(monkeypatch):
    """However small an index is, it is kept."""
    monkeypatch.setattr(index_cache, "AUTOMATIC_SAMPLES", 1)


def write_file(path: Path, content: bytes = b"any") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def settle(root: Path) -> None:
    """As if all of it had been there for a minute."""
    then = time.time() - 60
    for path in (root, *root.rglob("*")):
        os.utime(path, (then, then))


def make_folder(root: Path) -> Split:
    for split in ("train", "val"):
        for name in ("cat", "dög\n", os.fsdecode(b"\xff")):
            for number in range(3):
                write_file(root / split / name / f"{number}.jpg")
    settle(root)
    return find_splits(root)[0]


def make_shards(root: Path, samples: int = 6, shards: int = 2) -> Split:
    """TFRecord files of 1-byte images."""
    root.mkdir()
    for split in ("train", "validation"):
        for number in range(shards):
            with (root / f"{split}-{number:05}-of-{shards:05}").open("wb") as file:
                for sample in range(samples // shards):
                    write_record(file, encode_example(b"x", 1 + sample % 2, "", str(sample)))
    settle(root)
    return find_splits(root)[0]


def assert_equal(one: Index, other: Index) -> None:
    assert (one.classes, one.digest, one.shards) == (other.classes, other.digest, other.shards)
    for column in ("labels", "sizes", "shard_of", "offsets"):
        left, right = getattr(one, column), getattr(other, column)
        np.testing.assert_array_equal(left, right)
        assert left.dtype == right.dtype
    assert [one.names[index] for index in range(len(one))] == [other.names[index] for index in range(len(other))]


@pytest.mark.parametrize("make", [make_folder, make_shards])
def test_the_second_time_nothing_is_listed(tmp_path, kept, make):
    split, build = make(tmp_path / "data"), Builder()
    first = cached(split, build)
    assert_equal(cached(split, build), first)
    assert build.calls == 1
    assert user_path(split).is_relative_to(tmp_path / "cache/lbsgd/index")


@pytest.mark.parametrize(
    "change",
    [
        lambda train: write_file(train / "cat/3.jpg"),
        lambda train: (train / "cat/1.jpg").unlink(),
        lambda train: (train / "cat/1.jpg").rename(train / "cat/9.jpg"),
        lambda train: write_file(train / "ant/0.jpg"),
        lambda train: shutil.rmtree(train / "cat"),
        lambda train: (train / "cat").rename(train / "dog"),
    ],
)
def test_a_changed_folder_is_listed_anew(tmp_path, kept, change):
    split, build = make_folder(tmp_path / "data"), Builder()
    write_file(tmp_path / "data/train/bee/0.jpg")
    settle(tmp_path / "data")
    before = cached(split, build)
    change(split.folder)
    assert cached(split, build).digest != before.digest
    assert build.calls == 2


@pytest.mark.parametrize(
    "change",
    [
        os.utime,
        lambda shard: shard.write_bytes(shard.read_bytes() * 2),
        lambda shard: write_file(shard.with_name("classes.txt")),
    ],
)
def test_changed_shards_are_walked_anew(tmp_path, kept, change):
    split, build = make_shards(tmp_path / "data"), Builder()
    cached(split, build)
    change(split.folder / split.shards[0])
    cached(split, build)
    assert build.calls == 2


def test_what_may_still_change_unseen_is_not_kept(tmp_path, kept):
    """A second change within the clock's tick would leave the modification time as it is."""
    split, build = make_folder(tmp_path / "data"), Builder()
    os.utime(split.folder / "cat")
    cached(split, build)
    assert not user_path(split).exists()
    os.utime(split.folder / "cat", (time.time() - 3,) * 2)
    cached(split, build)
    assert user_path(split).exists()
    assert build.calls == 2


def test_a_change_while_listing_shows(tmp_path, kept):
    split, build = make_folder(tmp_path / "data"), Builder()

    def build_while_changing(split: Split) -> Index:
        index = build(split)
        write_file(split.folder / "cat/late.jpg")
        return index

    cached(split, build_while_changing)
    assert len(cached(split, build)) == 10


@pytest.mark.parametrize("damage", ["flipped", "cut", "foreign", "empty", "older", "folder"])
def test_a_damaged_index_is_made_again(tmp_path, kept, monkeypatch, damage):
    split, build = make_shards(tmp_path / "data"), Builder()
    original = cached(split, build)
    path = user_path(split)
    content = path.read_bytes()
    if damage == "older":
        monkeypatch.setattr(index_cache, "VERSION", index_cache.VERSION + 1)
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        broken = {"cut": content[:-5], "foreign": b"not an index" * 50, "empty": b""}
        path.write_bytes(broken.get(damage, content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]))
    assert_equal(cached(split, build), original)
    assert build.calls == 2
    cached(split, build)
    assert build.calls == (3 if damage == "folder" else 2)


def test_no_cut_or_changed_byte_gives_another_index(tmp_path, kept):
    split, build = make_folder(tmp_path / "data"), Builder()
    original = cached(split, build)
    content = user_path(split).read_bytes()
    for position in range(0, len(content), 7):
        changed = content[:position] + bytes([content[position] ^ 1 << position % 8]) + content[position + 1 :]
        for damaged in (content[:position], changed):
            user_path(split).write_bytes(damaged)
            assert_equal(cached(split, build), original)
    assert build.calls > 2 * len(content) // 7 * 0.9


def test_an_index_in_the_data_folder_serves_everyone(tmp_path):
    split, build = make_folder(tmp_path / "data"), Builder()
    written, was_built = write_index(split, build)
    assert was_built
    assert (tmp_path / "data/.lbsgd/train.index").is_file()
    assert_equal(cached(split, build), written)
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    assert_equal(cached(find_splits(tmp_path / "copy")[0], build), written)
    assert build.calls == 1
    assert open_dataset(str(tmp_path / "data")).train.digest == written.digest
    assert not (tmp_path / "cache").exists()


def test_an_index_is_written_again_only_when_needed_or_asked(tmp_path):
    split, build = make_folder(tmp_path / "data"), Builder()
    assert [write_index(split, build, force=force)[1] for force in (False, False, True)] == [True, False, True]
    (split.folder / "cat/0.jpg").unlink()
    settle(split.folder)
    os.utime(split.folder / "cat", (time.time() - 30,) * 2)
    index, was_built = write_index(split, build)
    assert was_built
    assert len(index) == 8


def test_writing_an_index_waits_until_the_data_is_settled(tmp_path, monkeypatch):
    monkeypatch.setattr(index_cache, "RACY_SECONDS", 0.3)
    split, build = make_folder(tmp_path / "data"), Builder()
    os.utime(split.folder / "cat")
    write_index(split, build)
    cached(split, build)
    assert build.calls == 1
    os.utime(split.folder / "cat", (time.time() + 1000,) * 2)
    with pytest.raises(DataError, match="still being written to"):
        write_index(split, build)


@pytest.mark.parametrize("obstacle", ["read-only", "file"])
def test_where_nothing_can_be_written(tmp_path, kept, monkeypatch, obstacle):
    split, build = make_folder(tmp_path / "data"), Builder()
    if obstacle == "file":
        (tmp_path / "cache").write_text("")
        (tmp_path / "data/.lbsgd").write_text("")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc/self/cache")
        (tmp_path / "data/.lbsgd").symlink_to("/proc/self/index")
    for calls in (1, 2):
        assert len(cached(split, build)) == 9
        assert build.calls == calls
    with pytest.raises(EnvironmentNotReady, match="cannot write.*train.index"):
        write_index(split, build)


def test_a_read_only_data_folder(tmp_path, kept):
    """Nobody may write in /proc, not even root."""
    split, build = make_folder(tmp_path / "data"), Builder()
    (tmp_path / "data/.lbsgd").symlink_to("/proc/self/index")
    cached(split, build)
    cached(split, build)
    assert build.calls == 1
    with pytest.raises(EnvironmentNotReady):
        write_index(split, build)


def test_large_sets_are_kept_unasked_and_small_ones_are_not(tmp_path):
    """Through open_dataset, with real numbers of samples."""
    for name, samples in (("small", 9_998), ("large", 10_000)):
        make_shards(tmp_path / name, samples)
        assert len(open_dataset(str(tmp_path / name)).train) == samples
    kept = list((tmp_path / "cache/lbsgd/index").glob("*/*"))
    assert sorted(path.name for path in kept) == ["train.index", "val.index"]
    train = open_dataset(str(tmp_path / "large")).train
    assert train.name(9_999) == "large/train-00001-of-00002:2/4999"
