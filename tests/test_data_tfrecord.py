import ast
import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lbsgd.data import open_dataset
from lbsgd.data.formats import open_split
from lbsgd.data.layout import find_splits
from lbsgd.data.tfrecord_format import encode_example, parse_example, write_record
from lbsgd.errors import DataError


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 5), (level,) * 3).save(file, "PNG")
    return file.getvalue()


def write_shard(path: Path, examples: list[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for example in examples:
            write_record(file, example)
    return path


def both(root: Path, examples: list[bytes]) -> Path:
    """The same examples as the only shard of both splits, side by side."""
    for split in ("train", "validation"):
        write_shard(root / f"{split}-00000-of-00001", examples)
    return root


def fails(root: Path, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(str(root))
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def in_tensorflow(code: str, *arguments: object) -> str:
    """Run code in a process that has TensorFlow as tf and the arguments in sys.argv; returns what it printed."""
    code = f"import os, sys\nos.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'\nimport tensorflow as tf\n{code}"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def test_shards_hold_what_a_folder_holds(tmp_path):
    classes = ["a b", "cat", "dög\n", os.fsdecode(b"\xff")]
    samples = [(name, f"{number}.png", png(40 * label + number)) for label, name in enumerate(classes) for number in range(3)]
    examples = [encode_example(data, classes.index(name) + 1, name, file) for name, file, data in samples]
    for split, long_split in (("train", "train"), ("val", "validation")):
        for name, file, data in samples:
            path = tmp_path / "folder" / split / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for number in range(3):
            part = examples[5 * number : 5 * number + 5]
            write_shard(tmp_path / "records" / f"{long_split}-{number:05}-of-00003", part)

    files, records = (open_split(find_splits(tmp_path / kind)[0]) for kind in ("folder", "records"))
    assert files.digest == records.digest
    assert files.classes == records.classes == tuple(classes)
    assert files.labels.tolist() == records.labels.tolist()
    for index, (name, file, data) in enumerate(samples):
        assert files.index.names[index] == records.index.names[index] == f"{name}/{file}"
        assert files.encoded(index) == records.encoded(index) == data
        np.testing.assert_array_equal(files.read(index), records.read(index))


def test_files_that_tensorflow_wrote_are_read(tmp_path):
    """With further features, in the layout that is usual for ImageNet."""
    code = """
feature = tf.train.Feature
def text(*values): return feature(bytes_list=tf.train.BytesList(value=[value.encode() for value in values]))
def write(path, numbers):
    with tf.io.TFRecordWriter(path) as writer:
        for number in numbers:
            synset = f"n{number % 2:08}"
            image = tf.io.encode_jpeg(tf.fill([16, 24 + number, 3], tf.cast(number, tf.uint8))).numpy()
            features = {
                "image/height": feature(int64_list=tf.train.Int64List(value=[16])),
                "image/encoded": feature(bytes_list=tf.train.BytesList(value=[image])),
                "image/filename": text(f"{synset}_{number}.JPEG"),
                "image/class/label": feature(int64_list=tf.train.Int64List(value=[500 + number % 2])),
                "image/class/synset": text(synset),
                "image/class/text": text("crane"),
                "image/object/bbox/xmin": feature(float_list=tf.train.FloatList(value=[0.5] * number)),
                "image/object/bbox/label": feature(int64_list=tf.train.Int64List(value=[-1] * number)),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
for split in ("train", "validation"):
    write(f"{sys.argv[1]}/{split}-00000-of-00002", range(3))
    write(f"{sys.argv[1]}/{split}-00001-of-00002", range(3, 7))
"""
    in_tensorflow(code, tmp_path)
    train = open_split(find_splits(tmp_path)[0])
    assert train.classes == ("n00000000", "n00000001")
    assert train.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert train.index.names[4] == "n00000000/n00000000_4.JPEG"
    assert [train.read(index).shape for index in range(7)] == [(16, 24 + number, 3) for number in range(7)]


def test_tensorflow_reads_what_is_written_here(tmp_path):
    names = ["0.JPEG", "ü\n.png"]
    shard = write_shard(tmp_path / "shard", [encode_example(b"\0" * 200 + b"x", 300, "cät", name) for name in names])
    code = """
for record in tf.data.TFRecordDataset(sys.argv[1]):
    keys = ("encoded", "class/synset", "filename", "format")
    features = {f"image/{key}": tf.io.FixedLenFeature([], tf.string) for key in keys}
    features["image/class/label"] = tf.io.FixedLenFeature([], tf.int64)
    parsed = tf.io.parse_single_example(record, features)
    print([int(parsed[key]) if key.endswith('label') else parsed[key].numpy() for key in sorted(parsed)])
"""
    expected = [
        [300, "cät".encode(), b"\0" * 200 + b"x", name.encode(), kind]
        for name, kind in zip(names, (b"JPEG", b"PNG"), strict=True)
    ]
    assert [ast.literal_eval(line) for line in in_tensorflow(code, shard).splitlines()] == expected


texts = st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace").decode())


@given(st.binary(max_size=500), st.integers(1, 2**63 - 1), texts, texts)
def test_an_example_is_parsed_as_it_was_encoded(image, label, synset, filename):
    data = encode_example(image, label, synset, filename)
    example = parse_example(data)
    assert data[slice(*example.image)] == image
    assert (example.label, example.synset, example.filename, example.text) == (label, synset, filename, "")


@given(st.binary(max_size=60), st.integers(0, 60), st.binary(max_size=20))
def test_damaged_examples_are_refused_or_parsed_within_their_bytes(noise, position, more):
    data = encode_example(b"image", 7, "synset", "file")
    for damaged in (noise, data[:position] + more + data[position:], data[:position] + more):
        try:
            first, stop = parse_example(damaged).image
        except ValueError as error:
            assert "\n" not in str(error)
        else:
            assert 0 <= first <= stop <= len(damaged)


def test_a_long_example_is_found_around_its_image(tmp_path):
    """Features before and after an image, and both larger than what is read at once."""
    image = png(5) + b"\0" * 20_000
    long = "x" * 9_000
    root = both(tmp_path, [encode_example(image, label, f"{long}{label}", long) for label in (1, 2)])
    train = open_split(find_splits(root)[0])
    assert train.encoded(1) == image
    assert train.classes == (f"{long}1", f"{long}2")


def test_without_names(tmp_path):
    train = open_split(find_splits(both(tmp_path, [encode_example(png(0), label, "", "") for label in (1000, 1, 30)]))[0])
    assert train.classes == ("1", "30", "1000")
    assert train.labels.tolist() == [2, 0, 1]
    assert train.index.names[2] == "train-00000-of-00001:2"
    assert train.name(2) == f"{tmp_path.name}/train-00000-of-00001:2"


def test_a_class_name_that_two_labels_share_names_none(tmp_path):
    root = both(tmp_path, [encode_example(png(0), label, name, "") for label, name in ((1, "crane"), (2, "crane"), (3, "cat"))])
    assert open_dataset(str(root)).train.classes == ("1", "2", "3")


def test_damage_is_named_with_its_place(tmp_path):
    root = both(tmp_path, [encode_example(png(0), label, "", "") for label in (1, 2, 3)])
    shard = root / "train-00000-of-00001"
    whole = shard.read_bytes()
    second = 16 + struct.unpack("<Q", whole[:8])[0]
    shard.write_bytes(whole[:second] + bytes([whole[second] ^ 1]) + whole[second + 1 :])
    fails(root, str(shard), f"record 1 at byte {second}", "checksum")
    for length in (5, 13, second - 1, second + 3, second + 40, len(whole) - 1):
        shard.write_bytes(whole[:length])
        fails(root, str(shard), f"record {length // second}")
    shard.write_bytes(b"")
    fails(root, str(shard), "empty")


@pytest.mark.parametrize("example", [b"", b"\xff" * 40, b"\x0a\x00", b"\x0b", b"text, no message"])
def test_records_that_are_no_images(tmp_path, example):
    fails(both(tmp_path, [encode_example(png(0), 1, "a", ""), example]), "record 1", "not an Example of an image")


def test_a_missing_file_of_a_set_is_named(tmp_path):
    root = both(tmp_path, [encode_example(png(0), label, "", "") for label in (1, 2)])
    for number in (0, 1, 3, 4):
        write_shard(root / f"train-{number:05}-of-00005", [encode_example(png(0), 1, "", "")])
    (root / "train-00000-of-00001").unlink()
    fails(root, "has 4 of 5", "'train-00002-of-00005'")


def test_the_framing_is_as_published():
    """A masked CRC rotates right by 15 bits and adds a constant, both modulo 2**32."""
    file = io.BytesIO()
    assert write_record(file, b"abc") == 19 == len(file.getvalue())

    def masked(data: bytes) -> int:
        crc = google_crc32c.value(data)
        return ((crc >> 15) + (crc << 17) % 2**32 + 0xA282EAD8) % 2**32

    length = b"\3" + b"\0" * 7
    assert file.getvalue() == struct.pack("<8sI3sI", length, masked(length), b"abc", masked(b"abc"))
