import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lbsgd.data import open_dataset
from lbsgd.data.formats import open_split
from lbsgd.data.layout import find_splits
from lbsgd.data.source import UnreadableSample
from lbsgd.errors import DataError

HOSTILE = ["with space", 'quo\'te "double"', "new\nline", "ünïcödé 猫", "$(echo no); rm", "a:b,c=d", "é" * 60]


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 5), (level,) * 3).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes], **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def both(root: Path, members: dict[str, bytes], **options) -> Path:
    """The same members as the only shard of train/ and of val/."""
    for split in ("train", "val"):
        write_tar(root / split / "0.tar", members, **options)
    return root


def labelled(suffix: str, contents: dict[str, bytes]) -> dict[str, bytes]:
    """Samples named by the keys; each has an image and a file with its label."""
    return {f"{key}{end}": data for key, label in contents.items() for end, data in ((".jpg", png(9)), (suffix, label))}


def fails(root: Path, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(str(root))
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_shards_hold_what_a_folder_holds(tmp_path):
    """Names, order, labels, bytes, pixels and the digest, whatever the classes are called and wherever shards end."""
    names = sorted([*HOSTILE, os.fsdecode(b"not utf-8 \xff")])
    members = {f"{name}/{number}.png": png(10 * number) for name in names for number in range(3)}
    members |= {f"{names[0]}/{number}.0.JPEG": png(7) for number in range(4, 6)}
    for split in ("train", "val"):
        for name, data in members.items():
            path = tmp_path / "folder" / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    ordered = sorted(members, key=lambda name: tuple(name.split("/")))
    for number, start in enumerate(range(0, len(ordered), 10)):
        part = {name: members[name] for name in ordered[start : start + 10]}
        for split in ("train", "val"):
            write_tar(tmp_path / "shards" / split / f"{number:03}.tar", part)

    files, shards = (open_split(find_splits(tmp_path / kind)[0]) for kind in ("folder", "shards"))
    assert files.digest == shards.digest
    assert files.classes == shards.classes == tuple(names)
    assert files.labels.tolist() == shards.labels.tolist()
    for index, name in enumerate(ordered):
        assert files.index.names[index] == shards.index.names[index] == name
        assert files.encoded(index) == shards.encoded(index) == members[name]
        np.testing.assert_array_equal(files.read(index), shards.read(index))


def test_labels_in_cls(tmp_path):
    members = labelled(".cls", {"b/0": b"7", "b/1": b"3\n", "a/2": b"7"})
    train = open_dataset(str(both(tmp_path, {**members, "a/3.txt": b"no image"}))).train
    assert train.labels.tolist() == [1, 0, 1]
    assert train.classes == ("3", "7")
    assert train.read(0).shape == (5, 6, 3)


def test_labels_in_json(tmp_path):
    contents = [{"label": 2, "cls": 9}, {"cls": 0}, {"label": "dog", "cls": 2}]
    members = labelled(".json", {f"{number:04}": json.dumps(content).encode() for number, content in enumerate(contents)})
    train = open_dataset(str(both(tmp_path, members))).train
    assert train.labels.tolist() == [1, 0, 1]
    assert train.classes == ("0", "2")


def test_the_folder_names_the_class(tmp_path):
    members = {f"./x/{name}": png(1) for name in ("dog/0.JPG", "cat/0.v2.png", "cat/1.jpeg", "cat/.hidden.jpg", "dog/9.txt")}
    train = open_split(find_splits(both(tmp_path, members))[0])
    assert train.classes == ("cat", "dog")
    assert train.labels.tolist() == [1, 0, 0]
    assert [train.index.names[index] for index in range(3)] == ["x/dog/0.JPG", "x/cat/0.v2.png", "x/cat/1.jpeg"]


def test_labels_take_their_names_from_folders_where_they_fit(tmp_path):
    root = both(tmp_path, labelled(".cls", {"dog/0": b"1", "cat/0": b"2", "dog/1": b"1"}))
    assert open_dataset(str(root)).train.classes == ("dog", "cat")


def test_classes_txt_names_the_classes(tmp_path):
    root = both(tmp_path, labelled(".cls", {"a": b"2", "b": b"0"}))
    for split in ("train", "val"):
        (root / split / "classes.txt").write_text("zebra\nwith space\ncat\n")
    train = open_dataset(str(root)).train
    assert train.classes == ("zebra", "with space", "cat")
    assert train.labels.tolist() == [2, 0]
    (root / "val/classes.txt").write_text("cat\nwith space\nzebra\n")
    fails(root, "other labels")
    (root / "train/classes.txt").write_text("zebra\ncat\n")
    fails(root, "are of 2", "classes.txt")


@pytest.mark.parametrize(
    "members, reason",
    [
        (labelled(".cls", {"a": b"cat", "b": b"1"}), "'a.cls' is not a decimal number"),
        (labelled(".json", {"a": b"{", "b": b"1"}), "'a.json' is not JSON"),
        (labelled(".json", {"x\ny": b"{}"}), r"'x\ny.jpg' has no label"),
        ({**labelled(".cls", {"a/0": b"1"}), "a/1.jpg": png(1)}, "1 of 2 samples"),
        ({"a/0.jpg": png(1), "a/0.mask.png": png(2), "a/0.cls": b"1"}, "only one image"),
        ({"a/0.jpg": png(1), "a/1.jpg": png(2)}, "only one class, 'a'"),
        ({"README": b""}, "no images"),
    ],
)
def test_samples_that_cannot_be_used(tmp_path, members, reason):
    fails(both(tmp_path, members), reason)


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_links_are_not_lost_silently(tmp_path, kind):
    root = both(tmp_path, {"a/0.png": png(0), "b/0.png": png(1)})
    with tarfile.open(root / "train/0.tar", "a") as archive:
        link = tarfile.TarInfo("b/1.png")
        link.type, link.linkname = kind, "a/0.png"
        archive.addfile(link)
    fails(root, "train/0.tar", "'b/1.png' is only a link")


def test_an_archive_cut_off_anywhere_is_refused(tmp_path):
    root = both(tmp_path, {f"{name}/{number}.png": png(number) for name in "ab" for number in range(3)})
    whole = (root / "train/0.tar").read_bytes()
    end = whole.rstrip(b"\0")
    for length in (0, 100, 512, 700, 1024, 1536, 2048, 3000, len(end) // 512 * 512):
        (root / "train/0.tar").write_bytes(whole[:length])
        fails(root, "train/0.tar")


@pytest.mark.parametrize("byte", [0, 156, 1024, 1024 + 130, 1024 + 150])
def test_a_damaged_header_is_refused(tmp_path, byte):
    """tarfile alone would take it for the end of the archive."""
    root = both(tmp_path, {f"{name}/{number}.png": png(number) for name in "ab" for number in range(3)})
    content = bytearray((root / "train/0.tar").read_bytes())
    content[byte] ^= 0xFF
    (root / "train/0.tar").write_bytes(content)
    fails(root, "train/0.tar")


def test_compressed_archives_are_refused(tmp_path):
    both(tmp_path, {"a/0.png": png(0), "b/0.png": png(0)})
    with tarfile.open(tmp_path / "train/1.tar.gz", "w:gz"):
        pass
    fails(tmp_path, "'1.tar.gz'", "compressed", "plain .tar")
    (tmp_path / "train/1.tar.gz").rename(tmp_path / "train/1.tar")
    fails(tmp_path, "train/1.tar")


def test_a_shard_that_is_cut_off_or_vanishes_later(tmp_path):
    members = {f"{name}/{number}.png": png(number) for name in "ab" for number in range(3)}
    train = open_split(find_splits(both(tmp_path, members))[0])
    shard = tmp_path / "train/0.tar"
    with shard.open("r+b") as file:
        file.truncate(int(train.index.offsets[5]) + 1)
    assert train.encoded(4) == members["b/1.png"]
    with pytest.raises(UnreadableSample, match=r"train/0\.tar:b/2\.png.*cut off"):
        train.encoded(5)
    shard.unlink()
    assert train.encoded(0) == members["a/0.png"], "an open shard stays readable"
    train = open_split(find_splits(both(tmp_path, members))[0])
    shard.unlink()
    os.mkfifo(shard)
    with pytest.raises(UnreadableSample, match=r"train/0\.tar:a/0\.png.*not a regular file"):
        train.encoded(0)


def test_an_empty_image_is_named(tmp_path):
    train = open_dataset(str(both(tmp_path, {"a/0.png": b"", "b/0.png": png(0)}))).train
    assert train.name(0) == "train/0.tar:a/0.png"
    with pytest.raises(UnreadableSample, match="a/0.png.*empty"):
        train.read(0)


def test_many_threads_open_each_shard_once(tmp_path):
    for number in range(20):
        for split in ("train", "val"):
            write_tar(tmp_path / split / f"{number:02}.tar", {"a/0.png": png(number), "b/0.png": png(100 + number)})
    train = open_split(find_splits(tmp_path)[0])
    before = len(list(Path("/proc/self/fd").iterdir()))
    barrier = threading.Barrier(8)

    def read_all(_: int) -> list[int]:
        barrier.wait()
        return [train.read(index)[0, 0, 0].item() for index in range(40)]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(read_all, range(8)))
    assert results == [[level for number in range(20) for level in (number, 100 + number)]] * 8
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 20


def test_the_limit_of_open_files_is_raised(tmp_path):
    for split in ("train", "val"):
        for number in range(80):
            write_tar(tmp_path / split / f"{number:02}.tar", {"a/0.png": png(number), "b/0.png": png(number)})
    code = """
import resource, sys
hard = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (60, hard))
from pathlib import Path
from lbsgd.data.formats import open_split
from lbsgd.data.layout import find_splits
from lbsgd.errors import EnvironmentNotReady
train = open_split(find_splits(Path(sys.argv[1]))[0])
try:
    print(len([train.encoded(index) for index in range(len(train))]))
except EnvironmentNotReady as error:
    print(error)
"""

    def read_all(hard: int) -> str:
        command = [sys.executable, "-c", code, str(tmp_path), str(hard)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert read_all(hard=200) == "160\n"
    assert "only 70 files" in read_all(hard=70)
