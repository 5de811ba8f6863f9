"""Images: where they come from, in which order, and how they become batches."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lbsgd.data.source import Dataset


def is_synthetic(spec: str) -> bool:
    """Whether `spec` names synthetic images."""
    return spec.partition(":")[0] == "synthetic"


def from_anywhere(spec: str) -> str:
    """The name of the same data set as it holds in any folder."""
    return spec if is_synthetic(spec) else str(Path(spec).absolute())


def open_dataset(spec: str) -> "Dataset":
    """The data set that `spec` names; no image is read yet.

    spec: a folder with train/ and val/, each of <class>/ folders, tar shards or TFRecord files (layout.py), or
    "synthetic", which has ImageNet's numbers, or others as in
    "synthetic:train=1024,val=128,classes=10,size=32". A folder of that name is "./synthetic".
    Raises DataError when the folder cannot be used, UsageError when synthetic data is misdescribed.
    """
    from lbsgd.data.stored import open_folder
    from lbsgd.data.synthetic import open_synthetic, parse_shape

    return open_synthetic(parse_shape(spec.partition(":")[2])) if is_synthetic(spec) else open_folder(spec)
