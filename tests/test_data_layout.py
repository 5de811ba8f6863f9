import io
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from lbsgd.data import open_dataset
from lbsgd.data.layout import find_splits
from lbsgd.data.tfrecord_format import encode_example, write_record
from lbsgd.errors import DataError

FILE = io.BytesIO()
Image.new("RGB", (3, 2)).save(FILE, "PNG")
PNG = FILE.getvalue()


def class_folders(folder: Path) -> None:
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        (folder / name / "0.png").write_bytes(PNG)


def tar(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name in ("cat", "dog"):
            member = tarfile.TarInfo(f"{name}/0.png")
            member.size = len(PNG)
            archive.addfile(member, io.BytesIO(PNG))


def records(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for label, name in enumerate(("cat", "dog"), 1):
            write_record(file, encode_example(PNG, label, name, "0.png"))


def fails(root: Path, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(str(root))
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "make, train, validation, format",
    [
        (class_folders, "train", "val", "folder"),
        (class_folders, "train", "validation", "folder"),
        (tar, "train/000.tar", "val/000.tar", "tar"),
        (tar, "train/a b.tar", "validation/x.tar", "tar"),
        (tar, "imagenet-train-000.tar", "imagenet-val-000.tar", "tar"),
        (tar, "trainval.tar", "validation.tar", "tar"),
        (records, "train/train-00000-of-00001", "validation/validation-00000-of-00001", "tfrecord"),
        (records, "train/0.tfrecord", "val/0.tfrecords", "tfrecord"),
        (records, "train-00000-of-00001", "validation-00000-of-00001", "tfrecord"),
        (records, "my.train.tfrecord", "my.val.tfrecord", "tfrecord"),
    ],
)
def test_where_splits_may_lie(tmp_path, make, train, validation, format):
    make(tmp_path / train)
    make(tmp_path / validation)
    splits = find_splits(tmp_path)
    assert [(split.name, split.format, split.root) for split in splits] == [
        (name, format, tmp_path) for name in ("train", "val")
    ]
    dataset = open_dataset(str(tmp_path))
    assert dataset.train.classes == ("cat", "dog")
    assert (len(dataset.train), len(dataset.validation)) == (2, 2)
    assert dataset.train.digest == dataset.validation.digest
    assert dataset.validation.read(1).shape == (2, 3, 3)


def test_the_splits_may_be_in_different_formats(tmp_path):
    tar(tmp_path / "train/0.tar")
    class_folders(tmp_path / "val")
    assert len(open_dataset(str(tmp_path)).train) == 2


def test_shards_come_in_the_order_of_their_names_and_hidden_ones_are_passed_over(tmp_path):
    for name in ("b.tar", "a.tar", "C.tar", ".d.tar"):
        tar(tmp_path / "train" / name)
    tar(tmp_path / "val/a.tar")
    os.mkfifo(tmp_path / "train/fifo.tar")
    (tmp_path / "train/notes.txt").write_text("none")
    assert find_splits(tmp_path)[0].shards == ("C.tar", "a.tar", "b.tar")


def test_folders_win_over_archives_left_beside_them(tmp_path):
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "val")
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(b"")
    (tmp_path / "train/boxes.tgz").write_bytes(b"")
    assert find_splits(tmp_path)[0].format == "folder"


def test_a_mixture_is_refused(tmp_path):
    class_folders(tmp_path / "train")
    tar(tmp_path / "train/x\ny.tar")
    class_folders(tmp_path / "val")
    fails(tmp_path, "train'", "'cat', 'dog' (folder) and", r"'x\ny.tar' (tar)", "only one of <class>/ folders")


def test_nothing_known_is_refused(tmp_path):
    class_folders(tmp_path / "train")
    (tmp_path / "val").mkdir()
    for number in range(5):
        (tmp_path / "val" / f"{number}.npz").write_text("none")
    fails(tmp_path, "val'", "only '0.npz', '1.npz', '2.npz' and 2 more", "*.tar", ".jpeg, .jpg, .png", "TFRecord")


@pytest.mark.parametrize("name", ["0.tar.gz", "0.tgz", "0.tar.xz", "0.tar.zst", "0.tar.bz2", "0.TAR.GZ"])
def test_compressed_archives_are_refused(tmp_path, name):
    for place in ("train/", "train-"):
        root = tmp_path / place
        tar(root / f"{place}{name}")
        tar(root / f"{place.replace('train', 'val')}0.tar")
        fails(root, name, "compressed archive")


def test_one_split_without_the_other(tmp_path):
    tar(tmp_path / "train-0.tar")
    fails(tmp_path, "has no val/", "tar or TFRecord shards")


def test_splits_with_other_classes(tmp_path):
    tar(tmp_path / "train/0.tar")
    class_folders(tmp_path / "val")
    (tmp_path / "val/dog").rename(tmp_path / "val/cow")
    fails(tmp_path, "only train/ has 'dog'", "only val/ has 'cow'")
