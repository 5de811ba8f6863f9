import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lbsgd.data import open_dataset
from lbsgd.data.formats import open_split
from lbsgd.data.layout import find_splits
from lbsgd.data.memory import MemoryCache
from lbsgd.data.source import UnreadableSample
from lbsgd.errors import DataError

HOSTILE = ["plain", "with space", 'quo\'te "double"', "new\nline", "ünïcödé 猫", "$(echo no); rm", "a:b,c=d"]


def write_images(folder: Path, count: int = 2, size: tuple[int, int] = (6, 5), suffix: str = ".png") -> None:
    """Images of one gray each, the i-th of level 10 i. size: width, height."""
    folder.mkdir(parents=True, exist_ok=True)
    for level in range(count):
        Image.new("RGB", size, (10 * level,) * 3).save(folder / f"{level}{suffix}")


def make_folder(root: Path, classes=("cat", "dog"), train: int = 3, val: int = 2) -> Path:
    for name in classes:
        write_images(root / "train" / name, train)
        write_images(root / "val" / name, val)
    return root


def fails(spec: object, *parts: str) -> None:
    """Opening `spec` fails in one line that says all of `parts`."""
    with pytest.raises(DataError) as caught:
        open_dataset(str(spec))
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_classes_and_files_come_in_the_order_of_their_names(tmp_path):
    dataset = open_dataset(str(make_folder(tmp_path, ("dog", "Cat", "ant"))))
    assert dataset.train.classes == dataset.validation.classes == ("Cat", "ant", "dog")
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert dataset.train.labels.dtype == np.int64
    assert (len(dataset.train), len(dataset.validation)) == (9, 6)
    assert dataset.train.name(4) == "train/ant/1.png"
    assert dataset.validation.read(3)[0, 0].tolist() == [10, 10, 10]


def test_names_may_be_anything(tmp_path):
    names = [*HOSTILE, os.fsdecode(b"not utf-8 \xff")]
    dataset = open_dataset(str(make_folder(tmp_path / "quo'te\n", names)))
    assert sorted(dataset.train.classes) == sorted(names)
    assert all(dataset.train.read(index).shape == (5, 6, 3) for index in range(len(dataset.train)))


@pytest.mark.parametrize("name", HOSTILE)
def test_an_unreadable_image_is_named_in_one_line(tmp_path, name):
    make_folder(tmp_path, ("cat", name))
    broken = tmp_path / "train" / name / "0.png"
    broken.write_text("a note, not an image\n")
    source = open_dataset(str(tmp_path)).train
    with pytest.raises(DataError) as caught:
        for index in range(len(source)):
            source.read(index)
    assert repr(str(broken)) in str(caught.value)
    assert "not an image" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_that_vanished_is_named(tmp_path):
    source = open_dataset(str(make_folder(tmp_path))).train
    (tmp_path / "train/cat/0.png").unlink()
    with pytest.raises(DataError, match="train/cat/0.png.*No such file"):
        source.read(0)


def test_an_image_replaced_by_what_is_no_file_is_named(tmp_path):
    """Opening a FIFO to read would wait for a writer."""
    source = open_dataset(str(make_folder(tmp_path))).train
    image = tmp_path / "train/cat/0.png"
    for replace, reason in ((os.mkfifo, "not a regular file"), (os.mkdir, "not a regular file"), (Path.touch, "it is empty")):
        image.rmdir() if image.is_dir() else image.unlink()
        replace(image)
        with pytest.raises(UnreadableSample, match=f"train/cat/0.png.*{reason}") as caught:
            source.read(0)
        assert (caught.value.name, caught.value.reason) == (str(image), reason)


def test_suffixes_in_any_case_hidden_and_other_files(tmp_path):
    make_folder(tmp_path)
    write_images(tmp_path / "train/cat", 1, suffix=".JPEG")
    write_images(tmp_path / "train/cat", 1, suffix=".Jpg")
    write_images(tmp_path / "train/.thumbnails")
    (tmp_path / "train/cat/.0.png").write_bytes(b"")
    (tmp_path / "train/cat/notes.txt").write_text("none")
    (tmp_path / "train/cat/folder.png").mkdir()
    os.mkfifo(tmp_path / "train/cat/fifo.png")
    os.mkfifo(tmp_path / "train/fifo")
    (tmp_path / "train/list.png").write_text("none")
    source = open_dataset(str(tmp_path)).train
    names = [Path(source.name(index)).name for index in range(len(source)) if source.labels[index] == 0]
    assert names == ["0.JPEG", "0.Jpg", "0.png", "1.png", "2.png"]


def test_links_to_folders_and_files_are_followed(tmp_path):
    make_folder(tmp_path / "real")
    (tmp_path / "data/train").mkdir(parents=True)
    (tmp_path / "data/val").symlink_to(tmp_path / "real/val")
    (tmp_path / "data/train/cat").symlink_to(tmp_path / "real/train/cat")
    (tmp_path / "data/train/dog").mkdir()
    (tmp_path / "data/train/dog/0.png").symlink_to(tmp_path / "real/train/dog/1.png")
    source = open_dataset(str(tmp_path / "data")).train
    assert len(source) == 4
    assert source.read(3)[0, 0, 0] == 10


def test_the_digest_is_of_names_sizes_and_classes(tmp_path):
    def digest(folder: Path) -> str:
        return open_dataset(str(folder)).train.digest

    root = make_folder(tmp_path / "one")
    shutil.copytree(root, tmp_path / "copy")
    original = digest(root)
    assert digest(tmp_path / "copy") == original
    seen = {original}
    with (root / "train/cat/0.png").open("ab") as file:
        file.write(b"\0")
    seen.add(digest(root))
    (root / "train/cat/0.png").rename(root / "train/cat/00.png")
    seen.add(digest(root))
    (root / "train/cat/1.png").rename(root / "train/dog/9.png")
    seen.add(digest(root))
    for split in ("train", "val"):
        (root / split / "cat").rename(root / split / "caT")
    seen.add(digest(root))
    assert len(seen) == 5


def test_no_such_folder(tmp_path):
    make_folder(tmp_path / "digits")
    fails(tmp_path / "digts", "no folder", "did you mean", "digits", "lbsgd data demo DIR")
    fails(tmp_path / "nowhere" / "digits", "no folder", "lbsgd data demo DIR")
    fails(tmp_path / ("x" * 300), "name too long")


def test_train_or_val_is_missing(tmp_path):
    fails(tmp_path, "no train/ and no val/", "train/<class>/")
    write_images(tmp_path / "train/cat")
    fails(tmp_path, "has no val/")


def test_no_images(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    fails(tmp_path, "no images in", "train", ".jpeg, .jpg, .png")
    (tmp_path / "train/cat").mkdir()
    (tmp_path / "val/cat").mkdir()
    fails(tmp_path, "no images in", "train", ".jpeg, .jpg, .png")


def test_an_empty_class(tmp_path):
    make_folder(tmp_path)
    for number in range(5):
        (tmp_path / "val" / f"empty\n{number}").mkdir()
    fails(tmp_path, r"'empty\n0', 'empty\n1', 'empty\n2' and 2 more", "val")


def test_a_single_class(tmp_path):
    fails(make_folder(tmp_path, ("cat",)), "only one class, 'cat'")


def test_classes_that_differ(tmp_path):
    make_folder(tmp_path)
    for name in "abcd":
        write_images(tmp_path / "train" / name)
    write_images(tmp_path / "val/z")
    fails(tmp_path, "only train/ has 'a', 'b', 'c' and 1 more", "only val/ has 'z'")


def test_small_data_sets_are_read_once(tmp_path):
    source = open_dataset(str(make_folder(tmp_path))).train
    before = [source.read(index) for index in range(len(source))]
    shutil.rmtree(tmp_path / "train")
    for index, pixels in enumerate(before):
        np.testing.assert_array_equal(source.read(index), pixels)


def test_the_memory_has_a_limit(tmp_path):
    """Six images, one of 12 times the size, and room for six small ones: only the large one is read again."""
    make_folder(tmp_path)
    Image.new("RGB", (24, 15)).save(tmp_path / "train/cat/0.png")
    source = MemoryCache(open_split(find_splits(tmp_path)[0]), limit_bytes=6 * 6 * 5 * 3)
    assert [source.read(index).shape[0] for index in range(6)] == [15, 5, 5, 5, 5, 5]
    shutil.rmtree(tmp_path / "train")
    assert [source.read(index).shape[0] for index in range(1, 6)] == [5] * 5
    with pytest.raises(DataError):
        source.read(0)


def test_importing_and_listing_load_neither_opencv_nor_a_framework(tmp_path):
    make_folder(tmp_path)
    code = (
        "import sys, lbsgd.data; assert 'numpy' not in sys.modules;"
        "lbsgd.data.open_dataset(sys.argv[1]); lbsgd.data.open_dataset('synthetic');"
        "assert not {'cv2', 'torch', 'tensorflow', 'mpi4py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
