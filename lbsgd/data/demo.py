"""Small data sets to try everything on with no download: handwritten digits, and letters in many typefaces."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lbsgd.data import digits, glyphs, open_dataset
from lbsgd.data.new_folder import new_folder
from lbsgd.errors import DataError, UsageError


@dataclass(frozen=True)
class Demo:
    """images: of train/ and val/. write: fills an empty folder."""

    classes: tuple[str, ...]
    images: tuple[int, int]
    write: Callable[[Path], None]


DEMOS = {
    "digits": Demo(digits.CLASSES, digits.IMAGES, digits.write),
    "glyphs": Demo(glyphs.CLASSES, glyphs.IMAGES, glyphs.write),
}


def write_demo(folder: Path, kind: str = "digits") -> bool:
    """Make the demo of that kind in `folder`, whole or not at all; False when it is there already.

    Raises UsageError when the folder holds something else, EnvironmentNotReady without the package that the demo comes with or
    when the place cannot be written to.
    """
    if is_demo(folder, kind):
        return False
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{str(folder.resolve())!r} is not empty and not the demo; name a new or an empty folder")
    with new_folder(folder) as partial:
        DEMOS[kind].write(partial)
    return True


def is_demo(folder: Path, kind: str) -> bool:
    """Whether the folder holds the complete demo of that kind."""
    try:
        dataset = open_dataset(str(folder))
    except DataError:
        return False
    counts = len(dataset.train), len(dataset.validation)
    return dataset.train.classes == DEMOS[kind].classes and counts == DEMOS[kind].images
