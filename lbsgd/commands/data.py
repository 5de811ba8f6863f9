"""`lbsgd data`: make data sets, look into them, and pack them for fast reading."""

import json
from pathlib import Path
from typing import Any

import click

from lbsgd.commands.options import POSITIVE

FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
MEGABYTE = 10**6


@click.group()
def data() -> None:
    """Make, describe, index, pack and verify data sets."""


@data.command()
@FOLDER
@click.option(
    "--kind",
    type=click.Choice(["digits", "glyphs"]),
    default="digits",
    show_default=True,
    help="What to write: real handwritten digits, or letters and figures in many typefaces.",
)
@JSON
def demo(folder: Path, kind: str, as_json: bool) -> None:
    """Write a small data set to DIR: handwritten digits, or glyphs.

    The digits are the 1,797 images of 8 x 8 pixels that come with scikit-learn, the glyphs 21,420 of 12 x 12 pixels, drawn from
    matplotlib's typefaces. Nothing is downloaded. A DIR that already holds them is left unchanged.
    """
    from lbsgd.data.demo import DEMOS, write_demo

    created = write_demo(folder, kind)
    train, validation = DEMOS[kind].images
    classes = len(DEMOS[kind].classes)
    facts = {"folder": str(folder), "created": created, "train": train, "validation": validation, "classes": classes}
    verb = "wrote" if created else "is there already:"
    text = f"{folder}: {verb} {train} images to train on, {validation} to validate, {classes} classes"
    _report(facts, text, as_json)


@data.command()
@FOLDER
@click.option("--train", type=POSITIVE, default=10_000, show_default=True, help="Training images.")
@click.option("--val", type=POSITIVE, default=1_000, show_default=True, help="Validation images.")
@click.option("--classes", type=click.IntRange(min=2), default=100, show_default=True, help="Classes of equal size.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed.")
@JSON
def generate(folder: Path, train: int, val: int, classes: int, seed: int, as_json: bool) -> None:
    """Write synthetic photographs, as large as ImageNet's, to DIR.

    They serve tests and benchmarks of the input. The same numbers and seed give the same files.
    """
    from lbsgd.data.procedural import write_photos

    write_photos(folder, train=train, val=val, classes=classes, seed=seed)
    facts = {"folder": str(folder), "train": train, "validation": val, "classes": classes, "seed": seed}
    _report(facts, f"{folder}: wrote {_content(facts)}", as_json)


@data.command()
@FOLDER
@click.option("--force", is_flag=True, help="List all of DIR even if its index is valid.")
@JSON
def index(folder: Path, force: bool, as_json: bool) -> None:
    """List DIR once and keep the list in DIR/.lbsgd.

    Every host and rank finds it there. Without it, each user on each host lists DIR at the first run. An index that
    does not match DIR is never used.
    """
    from lbsgd.data.formats import build_index
    from lbsgd.data.index_cache import shared_path, write_index
    from lbsgd.data.stored import find_stored

    facts: dict[str, object] = {"folder": str(folder)}
    lines = []
    for name, split in find_stored(folder).items():
        made, built = write_index(split, build_index, force=force)
        facts[name] = {
            "samples": len(made),
            "classes": len(made.classes),
            "bytes": int(made.sizes.sum()),
            "shards": len(made.shards),
            "digest": made.digest,
            "index": str(shared_path(split)),
            "built": built,
        }
        verb = "wrote the index of" if built else "is still the index of"
        lines.append(f"{shared_path(split)}: {verb} {len(made):,} images of {len(made.classes):,} classes")
    _report(facts, "\n".join(lines), as_json)


@data.command()
@click.argument("spec", metavar="DIR")
@JSON
def info(spec: str, as_json: bool) -> None:
    """Count what DIR holds: samples, classes, bytes, pixels.

    Widths and heights are read from the headers of up to 1,000 images per split. DIR may also be synthetic:...
    """
    from lbsgd.commands.data_table import info_text
    from lbsgd.data.info import describe_dataset

    facts = {"data": spec, **describe_dataset(spec)}
    _report(facts, info_text(facts), as_json)


@data.command()
@FOLDER
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["webdataset", "tfrecord"]),
    default="webdataset",
    show_default=True,
    help="Tar files, or TFRecord files in ImageNet's layout.",
)
@click.option("--shard-mb", type=POSITIVE, default=256, show_default=True, help="Maximum shard size in megabytes.")
@JSON
def pack(folder: Path, out: Path, format_name: str, shard_mb: int, as_json: bool) -> None:
    """Pack DIR into shards in OUT, a few large files.

    Images are copied unchanged, in the same order. The same command resumes a pack that was interrupted.
    """
    from functools import partial

    from lbsgd.commands.progress import progress
    from lbsgd.data.pack import pack as pack_shards
    from lbsgd.data.stored import open_stored

    sources = {name: stored.source for name, stored in open_stored(folder).items()}
    show = partial(progress, "packing")
    packed = pack_shards(sources, out, format=format_name, shard_bytes=shard_mb * MEGABYTE, show_progress=show)
    facts = {"folder": str(out), "format": format_name, **{name: len(source) for name, source in sources.items()}}
    facts |= {"classes": len(sources["train"].classes), "shards": packed.shards, "written": packed.written}
    verb = f"wrote {packed.written} of" if packed.written else "nothing to do, it has all"
    _report(facts, f"{out}: {verb} {packed.shards} shards; {_content(facts)}", as_json)


@data.command()
@FOLDER
@click.option("--threads", type=POSITIVE, help="Threads that read and decode.  [default: one per core]")
@JSON
def verify(folder: Path, threads: int | None, as_json: bool) -> None:
    """Decode every image of DIR and list the broken ones.

    The checksums of TFRecord files are verified too. The exit code is 4 if an image is broken.
    """
    import os

    from lbsgd.commands.progress import progress
    from lbsgd.data.layout import some
    from lbsgd.data.stored import open_stored
    from lbsgd.data.verify import verify as verify_split
    from lbsgd.errors import DataError

    splits = open_stored(folder)
    threads = threads or len(os.sched_getaffinity(0))
    with progress("verifying", sum(len(stored.source) for stored in splits.values())) as advance:
        results = {name: verify_split(stored, threads=threads, advance=advance) for name, stored in splits.items()}
    for name, found in results.items():
        if found.repeated:
            click.echo(f"warning: {name} has several images called {some(found.repeated)}", err=True)
    images = sum(found.images for found in results.values())
    broken = [{"split": name, "name": e.name, "reason": e.reason} for name, found in results.items() for e in found.broken]
    repeated = {name: found.repeated for name, found in results.items()}
    lines = [f"{image['split']}: {image['name']!r}: {image['reason']}" for image in broken]
    _report(
        {"folder": str(folder), "images": images, "broken": broken, "repeated_names": repeated},
        "\n".join([*lines, f"{folder}: {images:,} images, {len(broken):,} broken"]),
        as_json,
    )
    if broken:
        remedy = "replace them, remove them, or train with --bad-samples replace"
        raise DataError(f"{len(broken):,} of {images:,} images are broken; {remedy}")


def _content(facts: dict[str, Any]) -> str:
    train, validation, classes = (f"{facts[key]:,}" for key in ("train", "validation", "classes"))
    return f"{train} images to train on, {validation} to validate, {classes} classes"


def _report(facts: dict[str, Any], text: str, as_json: bool) -> None:
    click.echo(json.dumps(facts, indent=2) if as_json else text)
