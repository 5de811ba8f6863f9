"""Tar shards in WebDataset's convention: the files of one sample follow each other and share their name up to the first dot.

The image ends in .jpg, .jpeg or .png. The label is the integer in .cls, else that of "label" or "cls" in .json, else the folder
names the class. Names of the classes come from classes.txt beside the shards, one per line, or else from the folders.
"""

import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from lbsgd.data.index import Index
from lbsgd.data.layout import CLASSES_FILE, SUFFIXES, Split, some
from lbsgd.data.shards import Sample, broken_shard, index_shards
from lbsgd.data.storage import open_regular

Parsed = TypeVar("Parsed")

LABEL_KEYS = ("label", "cls")


def index_tar(split: Split) -> Index:
    """The samples of tar shards; raises DataError, naming the shard, when one is damaged or a sample has no label."""
    return index_shards(split, walk, _listed_classes(split.folder / CLASSES_FILE))


def walk(path: Path) -> list[Sample]:
    """The samples of one shard in their order.

    Without labels, every image is a sample of its own, so that the names of a folder's files may hold dots.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            samples = [sample for _, group in groupby(_members(archive), _key) for sample in _samples(archive, list(group))]
            _require_end(archive)
            return samples
    except OSError as error:
        raise broken_shard(path, error.strerror) from error
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise broken_shard(path, error) from error


def _listed_classes(path: Path) -> list[str] | None:
    if not path.is_file():
        return None
    return path.read_bytes().decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The regular files; hidden names, such as macOS adds, are skipped."""
    while member := archive.next():
        archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
        member.name = member.name.removeprefix("./")
        if member.name.startswith(".") or "/." in member.name:
            continue
        if member.isreg():
            yield member
        elif (member.islnk() or member.issym()) and _is_image(member):
            raise ValueError(f"{member.name!r} is only a link; archive what it points to (tar -h --hard-dereference)")


def _is_image(member: tarfile.TarInfo) -> bool:
    return member.name.lower().endswith(SUFFIXES)


def _key(member: tarfile.TarInfo) -> tuple[str, str]:
    folder, _, base = member.name.rpartition("/")
    return folder, base.partition(".")[0]


def _samples(archive: tarfile.TarFile, members: Sequence[tarfile.TarInfo]) -> Iterator[Sample]:
    """The sample that these members with one key are, or several without labels; none without an image."""
    images = list(filter(_is_image, members))
    label = _label(archive, members) if images else None
    if label is not None and len(images) > 1:
        raise ValueError(f"{some([image.name for image in images])} are one sample, which can have only one image")
    for image in images:
        class_name = image.name.rpartition("/")[0].rpartition("/")[2]
        if label is None and not class_name:
            raise ValueError(f"{image.name!r} has no label: neither a .cls or .json of that name nor a folder")
        yield Sample(image.name, label, class_name, image.offset_data, image.size)


def _label(archive: tarfile.TarFile, members: Sequence[tarfile.TarInfo]) -> int | None:
    by_suffix = {member.name.rpartition(".")[2].lower(): member for member in members}
    if member := by_suffix.get("cls"):
        return _parse(archive, member, int, "a decimal number")
    if member := by_suffix.get("json"):
        content = _parse(archive, member, json.loads, "JSON")
        found = [content.get(key) for key in LABEL_KEYS] if isinstance(content, dict) else []
        return next((label for label in found if type(label) is int), None)
    return None


def _parse(archive: tarfile.TarFile, member: tarfile.TarInfo, parse: Callable[[bytes], Parsed], what: str) -> Parsed:
    file = archive.extractfile(member)
    text = file.read() if file else b""
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{member.name!r} is not {what}") from error


def _require_end(archive: tarfile.TarFile) -> None:
    """Refuse what tarfile takes for the end of an archive: a damaged header, and a file cut between two members."""
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ValueError(f"it is cut off or damaged at byte {archive.offset}")
