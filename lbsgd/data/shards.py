"""From the samples found in the shards of a split to its Index: their order, and which label is which class.

The order is that of the shards' names, then of the position in a shard.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from lbsgd.data.index import Index
from lbsgd.data.layout import Split, some
from lbsgd.errors import DataError

Mark = TypeVar("Mark", int, str)

THREADS = 8
"""Walking through shards waits for the disk; on a network file system, long."""


class Sample(NamedTuple):
    """An image in a shard: where its bytes begin and how many they are.

    label: as the shard has it, None where only a class is named. class_name: "" where only a label is given.
    """

    name: str
    label: int | None
    class_name: str
    offset: int
    size: int


def index_shards(split: Split, walk: Callable[[Path], list[Sample]], classes: Sequence[str] | None = None) -> Index:
    """The index of what `walk` finds in each shard. classes: names by label, if they are known.

    Raises DataError when there are no samples, only one class, or labels that do not fit together.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(walk, [split.folder / shard for shard in split.shards]))
    samples = [sample for shard in found for sample in shard]
    if not samples:
        raise DataError(f"no images in {some(split.shards)} of {str(split.folder)!r}; remove the shards or make them again")
    classes, labels = _number(split.folder, samples, classes)
    if len(classes) == 1:
        raise DataError(f"{str(split.folder)!r} has only one class, {classes[0]!r}; a classifier needs two or more")
    return Index.of(
        classes,
        labels,
        names=[sample.name for sample in samples],
        sizes=[sample.size for sample in samples],
        shards=split.shards,
        shard_of=[number for number, shard in enumerate(found) for _ in shard],
        offsets=[sample.offset for sample in samples],
    )


def broken_shard(path: Path, reason: object) -> DataError:
    """What to raise for a shard that cannot be used."""
    return DataError(f"cannot use shard {str(path)!r}: {reason}; make it again or remove it")


def _number(folder: Path, samples: Sequence[Sample], listed: Sequence[str] | None) -> tuple[Sequence[str], list[int]]:
    """The classes, and the label of each sample as a number into them."""
    unlabelled = sum(sample.label is None for sample in samples)
    if 0 < unlabelled < len(samples):
        without = next(sample.name for sample in samples if sample.label is None)
        raise DataError(
            f"{unlabelled} of {len(samples)} samples in {str(folder)!r} have no label, such as {without!r}; "
            f"give one to all of them, or to none and let folders name the classes"
        )
    if unlabelled:
        names = [sample.class_name for sample in samples]
        classes = sorted(set(names)) if listed is None else listed
        return classes, _places(names, classes, folder)
    labels = [sample.label for sample in samples if sample.label is not None]
    if listed is not None:
        return listed, _places(labels, range(len(listed)), folder)
    known = sorted(set(labels))
    return _class_names(known, samples), _places(labels, known, folder)


def _places(marks: Sequence[Mark], known: Sequence[Mark], folder: Path) -> list[int]:
    """Where in `known` each mark is."""
    numbers = {mark: number for number, mark in enumerate(known)}
    if unknown := sorted(set(marks) - set(numbers)):
        raise DataError(f"samples in {str(folder)!r} are of {some(unknown)}, which its classes.txt does not list")
    return [numbers[mark] for mark in marks]


def _class_names(labels: Sequence[int], samples: Sequence[Sample]) -> list[str]:
    """The class of each label by name, where every label has one and no two the same, else by its decimal number."""
    named = {(sample.label, sample.class_name) for sample in samples}
    names = {name for _, name in named}
    if len(named) == len(names) == len(labels) and "" not in names:
        return [name for _, name in sorted(named)]
    return [str(label) for label in labels]
