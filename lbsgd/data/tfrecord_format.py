"""TFRecord files and the tf.train.Example messages of ImageNet in them, without TensorFlow or protobuf.

A record is a length (uint64), the masked CRC-32C of the length, the data and the masked CRC-32C of the data, all
little-endian. An Example is a protobuf message: a map from feature names to lists of bytes, floats or integers.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import google_crc32c

HEADER_BYTES = 12
FOOTER_BYTES = 4

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types of protobuf; the others are obsolete."""

_BYTES_LIST, _INT64_LIST = 1, 3
"""Fields of a Feature."""

_KEYS = {
    b"image/encoded": "image",
    b"image/class/label": "label",
    b"image/class/synset": "synset",
    b"image/class/text": "text",
    b"image/filename": "filename",
}
_LONGEST_VARINT = 10


class Bytes(Protocol):
    """What can be sliced into bytes, such as a part of a file."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


@dataclass(frozen=True)
class Example:
    """What ImageNet's Examples say of an image. image: where its bytes start and stop in the message.

    synset, text and filename are "" where the message has none.
    """

    image: tuple[int, int]
    label: int
    synset: str = ""
    text: str = ""
    filename: str = ""


def write_record(file: BinaryIO, data: bytes) -> int:
    """Append a record to a file; returns the bytes written."""
    length = struct.pack("<Q", len(data))
    return file.write(length + _packed_crc(length) + data + _packed_crc(data))


def parse_header(header: bytes) -> int:
    """The length of a record's data from the record's first HEADER_BYTES; raises ValueError when they are damaged."""
    if header[8:] != _packed_crc(header[:8]):
        raise ValueError("its length does not match the checksum")
    return struct.unpack("<Q", header[:8])[0]


def encode_example(image: bytes, label: int, synset: str, filename: str) -> bytes:
    """The Example of an encoded image. label: from 1, as ImageNet's files count. The file name tells JPEG from PNG."""
    image_format = b"PNG" if filename.lower().endswith(".png") else b"JPEG"
    features = {
        b"image/class/label": _field(_INT64_LIST, _field(1, _varint(label))),
        b"image/class/synset": _bytes_list(synset.encode("utf-8", "surrogateescape")),
        b"image/encoded": _bytes_list(image),
        b"image/filename": _bytes_list(filename.encode("utf-8", "surrogateescape")),
        b"image/format": _bytes_list(image_format),
    }
    entries = (_field(1, _field(1, key) + _field(2, feature)) for key, feature in features.items())
    return _field(1, b"".join(entries))


def parse_example(data: Bytes) -> Example:
    """Find an image and what is said of it in an Example; the image's bytes are not looked at.

    Raises ValueError with a reason in one line.
    """
    found = {}
    for features in _spans(data, (0, len(data)), 1):
        for entry in _spans(data, features, 1):
            key, feature = _map_entry(data, entry)
            if key in _KEYS:
                found[_KEYS[key]] = feature
    return _example(data, found)


def _example(data: Bytes, features: dict[str, tuple[int, int]]) -> Example:
    if "image" not in features or "label" not in features:
        raise ValueError("it has no image/encoded or no image/class/label feature")
    image, label = _first_bytes(data, features.pop("image")), _first_integer(data, features.pop("label"))
    if image is None or label is None:
        raise ValueError("its image/encoded or image/class/label feature is empty or of another type")
    spans = {name: _first_bytes(data, feature) for name, feature in features.items()}
    texts = {name: data[slice(*span)].decode("utf-8", "surrogateescape") for name, span in spans.items() if span}
    return Example(image, label, **texts)


def _map_entry(data: Bytes, entry: tuple[int, int]) -> tuple[bytes, tuple[int, int]]:
    """The key of a map's entry and the span of its value; the last of each counts, as protobuf has it."""
    key, value = b"", (entry[1], entry[1])
    for number, start, stop in _fields(data, *entry):
        if number == 1:
            key = data[start:stop]
        elif number == 2:
            value = start, stop
    return key, value


def _first_bytes(data: Bytes, feature: tuple[int, int]) -> tuple[int, int] | None:
    """The span of a feature's first text."""
    return next((span for texts in _spans(data, feature, _BYTES_LIST) for span in _spans(data, texts, 1)), None)


def _first_integer(data: Bytes, feature: tuple[int, int]) -> int | None:
    """A feature's first integer; packed or not, it is the first varint of the span. Negative ones are two's complement."""
    for integers in _spans(data, feature, _INT64_LIST):
        for start, stop in _spans(data, integers, 1):
            number, _ = _read_varint(data, start, stop)
            return number - (number >> 63 << 64)
    return None


def _spans(data: Bytes, message: tuple[int, int], wanted: int) -> Iterator[tuple[int, int]]:
    """Where each value of one field of a message lies."""
    return ((start, stop) for number, start, stop in _fields(data, *message) if number == wanted)


def _fields(data: Bytes, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(field number, start, stop) of each value in a message."""
    while start < stop:
        tag, start = _read_varint(data, start, stop)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _BYTES:
            length, start = _read_varint(data, start, stop)
        elif wire_type == _VARINT:
            length = _read_varint(data, start, stop)[1] - start
        elif wire_type in (_FIXED64, _FIXED32):
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire_type} is not one of protobuf")
        if start + length > stop:
            raise ValueError("a field reaches beyond the end of its message")
        yield number, start, start + length
        start += length


def _read_varint(data: Bytes, start: int, stop: int) -> tuple[int, int]:
    """An unsigned number of 64 bits and where the next begins: 7 bits a byte, the lowest first."""
    number = 0
    for position, byte in enumerate(data[start : min(stop, start + _LONGEST_VARINT)]):
        number |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return number & (1 << 64) - 1, start + position + 1
    raise ValueError("a number does not end")


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def _bytes_list(value: bytes) -> bytes:
    return _field(_BYTES_LIST, _field(1, value))


def _packed_crc(data: bytes) -> bytes:
    """The CRC-32C, rotated and shifted: a checksum over data that holds checksums would be weak."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
