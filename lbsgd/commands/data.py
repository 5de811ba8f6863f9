"""`lbsgd data`: make data sets, and look after them.

A broken image is exit code 4, and only after all of them were listed.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lbsgd.commands.options import POSITIVE

if TYPE_CHECKING:
    from lbsgd.data.layout import Split

FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
MEGABYTE = 10**6


@click.group()
def data() -> None:
    """Make data sets."""


@data.command()
@FOLDER
@JSON
def demo(folder: Path, as_json: bool) -> None:
    """Write a small real data set to DIR: handwritten digits.

    They are the 1,797 images of 8 x 8 pixels that come with scikit-learn; nothing is downloaded. A DIR that
    already holds them is left as it is.
    """
    from lbsgd.data.demo import CLASSES, IMAGES, write_demo

    created = write_demo(folder)
    train, validation = IMAGES
    facts = {"folder": str(folder), "created": created, "train": train, "validation": validation, "classes": len(CLASSES)}
    _print_made(facts, "wrote" if created else "is there already:", as_json)


@data.command()
@FOLDER
@click.option("--train", type=POSITIVE, default=10_000, show_default=True, help="Images to train on.")
@click.option("--val", type=POSITIVE, default=1_000, show_default=True, help="Images to validate on.")
@click.option("--classes", type=click.IntRange(min=2), default=100, show_default=True, help="Classes, equally frequent.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Start of all random numbers.")
@JSON
def generate(folder: Path, train: int, val: int, classes: int, seed: int, as_json: bool) -> None:
    """Write drawn photographs to DIR, with the sizes and bytes of ImageNet's.

    For tests and benchmarks of the input: the same numbers and seed give the same files.
    """
    from lbsgd.data.procedural import write_photos

    write_photos(folder, train=train, val=val, classes=classes, seed=seed)
    facts = {"folder": str(folder), "train": train, "validation": val, "classes": classes, "seed": seed}
    _print_made(facts, "wrote", as_json)


@data.command()
@FOLDER
@click.option("--force", is_flag=True, help="Go through all of DIR even if its index is valid.")
@JSON
def index(folder: Path, force: bool, as_json: bool) -> None:
    """List DIR once and keep the list in DIR/.lbsgd, for every host and rank.

    Without it, the first run of each user on each host lists DIR. An index that does not fit what lies in DIR is not used.
    """
    from lbsgd.data.formats import build_index
    from lbsgd.data.index_cache import shared_path, write_index

    facts = {}
    for name, split in _splits(folder).items():
        made, built = write_index(split, build_index, force=force)
        facts[name] = {"samples": len(made), "classes": len(made.classes), "bytes": int(made.sizes.sum())}
        facts[name] |= {"shards": len(made.shards), "digest": made.digest, "index": str(shared_path(split)), "built": built}
    if as_json:
        _print_json({"folder": str(folder), **facts})
        return
    for name, about in facts.items():
        verb = "wrote" if about["built"] else "is valid already:"
        click.echo(f"{about['index']}: {verb} {about['samples']:,} images of {about['classes']:,} classes ({name})")


@data.command()
@click.argument("spec", metavar="DIR")
@JSON
def info(spec: str, as_json: bool) -> None:
    """Count what DIR holds: samples, classes, bytes, and sizes of images.

    Widths and heights are those in the headers of 1,000 images spread over each split. DIR may be synthetic:...
    """
    from lbsgd.data.info import describe_dataset

    facts = describe_dataset(spec)
    if as_json:
        _print_json(facts)
        return
    click.echo(f"{spec}: {facts['format']}")
    splits = [facts["train"], facts["validation"]]
    _print_table([["", "train", "validation"], *([label, *map(text, splits)] for label, text in INFO_ROWS.items())])


@data.command()
@click.argument("source", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["webdataset", "tfrecord"]),
    default="webdataset",
    show_default=True,
    help="Tar files, or TFRecord files in ImageNet's layout.",
)
@click.option("--shard-mb", type=POSITIVE, default=256, show_default=True, help="Megabytes of a shard, at most.")
@JSON
def pack(source: Path, folder: Path, format_name: str, shard_mb: int, as_json: bool) -> None:
    """Pack DIR into shards in OUT: few large files instead of one an image.

    Images are copied as they are, in the same order. A pack that was interrupted goes on when the same command runs again.
    """
    from functools import partial

    from lbsgd.commands.progress import progress
    from lbsgd.data.formats import open_split
    from lbsgd.data.pack import pack

    sources = {name: open_split(split) for name, split in _splits(source).items()}
    packed = pack(sources, folder, format_name, shard_mb * MEGABYTE, partial(progress, "packing"))
    facts = {"folder": str(folder), "format": format_name, **{name: len(images) for name, images in sources.items()}}
    facts |= {"shards": packed.shards, "written": packed.written}
    if as_json:
        _print_json(facts)
    elif packed.written:
        click.echo(f"{folder}: wrote {packed.written} of {packed.shards} shards, {_counts(facts)}")
    else:
        click.echo(f"{folder}: is packed already, {packed.shards} shards, {_counts(facts)}; nothing to do")


@data.command()
@FOLDER
@click.option("--threads", type=POSITIVE, help="Threads that read and decode.  [default: as many as cores]")
@JSON
def verify(folder: Path, threads: int | None, as_json: bool) -> None:
    """Decode every image of DIR completely and list the broken ones.

    In TFRecord files the checksums are compared too. Leaves with exit code 4 when an image is broken.
    """
    import os

    from lbsgd.commands.progress import progress
    from lbsgd.data.formats import open_split
    from lbsgd.data.verify import broken_samples, repeated_names
    from lbsgd.errors import DataError

    splits = _splits(folder)
    sources = {name: open_split(split) for name, split in splits.items()}
    repeated = {name: repeated_names(source) for name, source in sources.items()}
    broken = {}
    with progress("verifying", sum(map(len, sources.values()))) as advance:
        for name, source in sources.items():
            broken[name] = broken_samples(
                splits[name], source, threads=threads or len(os.sched_getaffinity(0)), advance=advance
            )
    ...
