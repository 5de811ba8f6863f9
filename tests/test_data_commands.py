"""`lbsgd data index|info|generate|pack` as typed; what the parts do is in the tests of the parts."""

import json
import os
import pty
import re
import time
from pathlib import Path

import pytest
from PIL import Image

from lbsgd.commands.data_table import info_text
from lbsgd.data import open_dataset


def make_folder(root: Path, sizes=((6, 5), (8, 9), (40, 3))) -> Path:
    """Images of these (width, height) in each class of each split, an hour old: an index waits for new ones to settle."""
    for place in ("train/cat", "train/dog", "val/cat", "val/dog"):
        (root / place).mkdir(parents=True)
        for number, size in enumerate(sizes):
            Image.new("RGB", size).save(root / place / f"{number}.png")
        age(root / place, 3600)
    return root


def age(folder: Path, seconds: float) -> None:
    os.utime(folder, (time.time() - seconds,) * 2)


def test_info_counts(tmp_path, lbsgd):
    folder = make_folder(tmp_path)
    (folder / "train/cat/0.png").write_text("a note, not an image")
    (folder / "train/dog/3.png").write_bytes(b"")
    sizes = sorted(path.stat().st_size for path in folder.glob("train/*/*"))
    train = json.loads(lbsgd("data", "info", folder, "--json").stdout)["train"]
    assert train == {
        "indexed": False,
        "samples": 7,
        "classes": 2,
        "samples_per_class": {"fewest": 3, "most": 4},
        "digest": open_dataset(str(folder)).train.digest,
        "shards": 0,
        "bytes": sum(sizes),
        "bytes_per_sample": {"mean": pytest.approx(sum(sizes) / 7), "median": sizes[3], "largest": sizes[-1]},
        "pixels": {
            "sampled": 7,
            "unreadable": 2,
            "width": {"smallest": 6, "median": 8, "largest": 40},
            "height": {"smallest": 3, "median": 5, "largest": 9},
        },
    }


def test_info_in_words(tmp_path, lbsgd):
    folder = make_folder(tmp_path)
    result = lbsgd("data", "info", folder)
    assert (result.code, result.stderr) == (0, "")
    heading, *lines = result.stdout.splitlines()
    assert heading == f"{folder}: folder"
    rows = [re.split(" {2,}", line) for line in lines]
    assert ["", "train", "validation"] in rows
    assert ["images", "6", "6"] in rows
    assert ["width", "8 (6 to 40)", "8 (6 to 40)"] in rows


def test_info_of_images_that_are_all_broken(tmp_path, lbsgd):
    folder = make_folder(tmp_path)
    for path in folder.rglob("*.png"):
        path.write_text("none")
    result = lbsgd("data", "info", folder)
    assert result.code == 0
    assert "0 of 6" in result.stdout


def test_info_reads_at_most_1000_headers(tmp_path, lbsgd):
    folder = make_folder(tmp_path, [(6, 5)])
    for number in range(2000):
        (folder / f"train/cat/{number:04}.png").hardlink_to(folder / "train/dog/0.png")
    pixels = json.loads(lbsgd("data", "info", folder, "--json").stdout)["train"]["pixels"]
    assert (pixels["sampled"], pixels["unreadable"]) == (1000, 0)


def test_info_of_synthetic_data(lbsgd):
    result = lbsgd("data", "info", "synthetic:train=1024,val=128,classes=10,size=32", "--json")
    facts = json.loads(result.stdout)
    assert facts["format"] == "synthetic"
    assert (facts["train"]["samples"], facts["validation"]["samples"], facts["train"]["classes"]) == (1024, 128, 10)
    assert info_text(facts).splitlines()[2].split() == ["images", "1,024", "128"]


def test_an_index_is_kept_and_found(tmp_path, lbsgd):
    folder = make_folder(tmp_path / "images")
    first, again, forced = (
        json.loads(lbsgd("data", "index", folder, "--json", *flags).stdout) for flags in ([], [], ["--force"])
    )
    assert [report["train"]["built"] for report in (first, again, forced)] == [True, False, True]
    assert first["validation"]["samples"] == 6
    assert first["train"]["digest"] == open_dataset(str(folder)).train.digest
    assert Path(first["train"]["index"]).parent == folder / ".lbsgd"
    assert Path(first["train"]["index"]).exists()
    assert json.loads(lbsgd("data", "info", folder, "--json").stdout)["train"]["indexed"]


def test_an_index_that_no_longer_fits_is_made_again(tmp_path, lbsgd):
    folder = make_folder(tmp_path)
    lbsgd("data", "index", folder)
    (folder / "train/cat/0.png").unlink()
    age(folder / "train/cat", 60)
    assert json.loads(lbsgd("data", "info", folder, "--json").stdout)["train"]["indexed"] is False
    result = lbsgd("data", "index", folder)
    assert "train.index: wrote the index of 5 images of 2 classes" in result.stdout
    assert "val.index: is still the index of 6 images of 2 classes" in result.stdout


def test_an_index_that_cannot_be_written(tmp_path, lbsgd):
    """A file where the folder would be stands in for a read-only place, which root may write to."""
    folder = make_folder(tmp_path)
    (folder / ".lbsgd").write_text("")
    result = lbsgd("data", "index", folder)
    assert (result.code, result.stdout) == (3, "")
    assert "cache" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["index", "info", "verify", "pack"])
def test_no_such_folder(tmp_path, lbsgd, command):
    result = lbsgd("data", command, tmp_path / "nowhere", *([tmp_path / "out"] if command == "pack" else []))
    assert (result.code, result.stdout) == (4, "")
    assert result.stderr.startswith("Error: no folder")
    assert not (tmp_path / "out").exists()


def test_photographs_are_drawn(tmp_path, lbsgd):
    arguments = ["--train", 6, "--val", 4, "--classes", 2, "--seed", 3]
    result = lbsgd("data", "generate", tmp_path / "photos", *arguments, "--json")
    assert json.loads(result.stdout) == {
        "folder": str(tmp_path / "photos"), "train": 6, "validation": 4, "classes": 2, "seed": 3,
    }  # fmt: skip
    dataset = open_dataset(str(tmp_path / "photos"))
    assert (len(dataset.train), len(dataset.validation), len(dataset.train.classes)) == (6, 4, 2)
    assert lbsgd("data", "generate", tmp_path / "photos", *arguments).code == 2


@pytest.mark.parametrize("format", ["webdataset", "tfrecord"])
def test_pack_tells_what_it_wrote(tmp_path, lbsgd, format):
    folder = make_folder(tmp_path / "images")
    first = lbsgd("data", "pack", folder, tmp_path / "out", "--format", format, "--json")
    assert first.stderr == ""
    assert json.loads(first.stdout) == {
        "folder": str(tmp_path / "out"), "format": format, "train": 6, "validation": 6, "classes": 2,
        "shards": 2, "written": 2,
    }  # fmt: skip
    again = lbsgd("data", "pack", folder, tmp_path / "out", "--format", format)
    assert "nothing to do, it has all 2 shards; 6 images to train on, 6 to validate, 2 classes" in again.stdout
    other = lbsgd("data", "pack", folder, tmp_path / "out", "--format", format, "--shard-mb", 1)
    assert (other.code, other.stdout, other.stderr.count("another shard size")) == (2, "", 1)


def test_an_image_that_cannot_be_packed_is_exit_code_4(tmp_path, lbsgd):
    folder = make_folder(tmp_path / "images")
    (folder / "train/cat/0.png").write_bytes(b"")
    result = lbsgd("data", "pack", folder, tmp_path / "out")
    assert (result.code, result.stdout) == (4, "")
    assert "0.png" in result.stderr and "it is empty" in result.stderr


def test_on_a_terminal_a_bar_moves(tmp_path, start):
    terminal, inside = pty.openpty()
    process = start("data", "verify", make_folder(tmp_path), "--json", stderr=inside, env={"TERM": "xterm", "COLUMNS": "80"})
    os.close(inside)
    shown = b""
    while chunk := _read(terminal):
        shown += chunk
    os.close(terminal)
    stdout, _ = process.communicate(timeout=60)
    assert json.loads(stdout)["images"] == 12
    assert b"verifying" in shown and b"12/12" in shown


def _read(terminal: int) -> bytes:
    """b"" at the end, which Linux tells by an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
