"""Where a data folder keeps its training and validation images, and in which format.

Either in folders, train/ and val/ (or validation/), or as shards side by side whose names say which split they are of.
"""

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lbsgd.errors import DataError

SUFFIXES = (".jpeg", ".jpg", ".png")
"""How the names of images end, in any case."""

VALIDATION_FOLDERS = ("val", "validation")
COMPRESSED = re.compile(r"\.(tgz|tbz2?|txz|tar\.\w+)$", re.IGNORECASE)
PATTERNS = {"tar": re.compile(r"\.tar$"), "tfrecord": re.compile(r"\.tfrecords?$|-\d+-of-\d+$")}
"""File names of the shards of each format."""

PACK_RECORD = ".lbsgd-pack.json"
"""What `lbsgd data pack` keeps in the folder it fills."""

CLASSES_FILE = "classes.txt"
"""Beside shards, it may name the classes, one per line, in the order of their labels."""

UNDERSTOOD = f"<class>/ folders of {', '.join(SUFFIXES)} images, *.tar shards, or TFRecord files (*-of-*, *.tfrecord)"


@dataclass(frozen=True)
class Split:
    """Where the images to train on, or to validate on, lie.

    name: "train" or "val". format: "folder", "tar" or "tfrecord". root: the data folder. folder: what holds the class
    folders or the shards. shards: their file names in order; none for class folders.
    """

    name: str
    format: str
    root: Path
    folder: Path
    shards: tuple[str, ...] = ()


def find_splits(root: Path) -> tuple[Split, Split]:
    """The training and the validation split of a data folder.

    Raises DataError when the folder or one of them is missing, or is in no format or in several; OSError when a folder
    cannot be listed.
    """
    if not root.is_dir():
        raise DataError(f"no folder {str(root)!r}; {_suggestion(root)}`lbsgd data demo DIR` makes a small one")
    train = _folder(root, ("train",)) or _side_by_side(root, "train")
    validation = _folder(root, VALIDATION_FOLDERS) or _side_by_side(root, "val")
    missing = [f"{name}/" for name, split in (("train", train), ("val", validation)) if split is None]
    if train is None or validation is None:
        needed = "it needs train/<class>/ and val/<class>/ folders, or tar or TFRecord shards of both"
        raise DataError(f"{str(root)!r} has no {' and no '.join(missing)}; {needed}")
    for split in (train, validation):
        _require_complete(split)
    return train, validation


def _require_complete(split: Split) -> None:
    """The list of classes is what a pack writes last; TFRecords say in their names how many there are."""
    if split.format == "tar" and (split.root / PACK_RECORD).exists() and not (split.folder / CLASSES_FILE).exists():
        raise DataError(f"{str(split.root)!r} is a pack that was not finished; run the same `lbsgd data pack` again")


def some(names: Sequence[object]) -> str:
    """Up to three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


def _folder(root: Path, names: Sequence[str]) -> Split | None:
    """The split in the first of these folders that exists."""
    for name in names:
        if (root / name).is_dir():
            return _split("train" if name == "train" else "val", root, root / name, _visible(root / name))
    return None


def _side_by_side(root: Path, name: str) -> Split | None:
    """The split whose shards lie in the data folder itself; a name with both words, such as trainval, is of training."""
    wanted = [entry for entry in _visible(root) if ("train" if "train" in entry.name else "val") == name in entry.name]
    files = [entry for entry in wanted if entry.is_file()]
    return _split(name, root, root, files) if any(_is_shard(entry.name) for entry in files) else None


def _split(name: str, root: Path, folder: Path, entries: Sequence[os.DirEntry]) -> Split:
    found = {"folder": [entry.name for entry in entries if entry.is_dir()]}
    for kind, pattern in PATTERNS.items():
        found[kind] = [entry.name for entry in entries if pattern.search(entry.name) and entry.is_file()]
    if not found["folder"]:
        _refuse_compressed(folder, [entry.name for entry in entries])
    kinds = [kind for kind, names in found.items() if names]
    if not kinds:
        held = f"only {some([entry.name for entry in entries])}" if entries else "nothing"
        raise DataError(f"no images in {str(folder)!r}: it holds {held}, and may hold {UNDERSTOOD}")
    if len(kinds) > 1:
        held = " and ".join(f"{some(found[kind])} ({kind})" for kind in kinds)
        raise DataError(f"{str(folder)!r} holds {held}; it may hold only one of {UNDERSTOOD}")
    return Split(name, kinds[0], root, folder, tuple(found[kinds[0]]) if kinds[0] in PATTERNS else ())


def _refuse_compressed(folder: Path, names: Sequence[str]) -> None:
    if compressed := [name for name in names if COMPRESSED.search(name)]:
        raise DataError(
            f"{str(folder)!r} holds {some(compressed)}: images cannot be picked from a compressed archive; "
            f"make plain .tar files of them"
        )


def _is_shard(name: str) -> bool:
    return any(pattern.search(name) for pattern in (COMPRESSED, *PATTERNS.values()))


def _visible(folder: Path) -> list[os.DirEntry]:
    """What a folder holds in the order of the names, hidden names left out."""
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _suggestion(missing: Path) -> str:
    """A folder beside the missing one whose name is close, as a question; "" without one."""
    try:
        siblings = [entry.name for entry in missing.parent.iterdir() if entry.is_dir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(missing.name, siblings, n=1)
    return f"did you mean {str(missing.with_name(close[0]))!r}? " if close else ""
