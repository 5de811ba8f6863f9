"""lbsgd's input pipeline: its speed beside others, its pixels beside Pillow's, its memory, and how fast it starts.

All on a data set that it generates: JPEG files with sizes and bytes as ImageNet's have them (lbsgd/data/photo.py).
"""

import importlib
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from json_option import json_option

from lbsgd.errors import LbsgdError

PARTS = ("speed", "pixels", "memory", "startup")
CLASSES = 10
POSITIVE = click.IntRange(min=1)


@click.command(context_settings={"show_default": True})
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), default=PARTS, help="What to measure. Repeatable.")
@click.option("--images", type=POSITIVE, default=2000, help="Images of the data set; a turn is an epoch of it.")
@click.option("--batch", type=POSITIVE, default=64, help="Images of a batch.")
@click.option("--rounds", type=POSITIVE, default=7, help="Turns of each contestant that count.")
@click.option("--pixel-images", type=POSITIVE, default=500, help="Images compared with Pillow's.")
@click.option("--memory-images", type=POSITIVE, default=2000, help="Images of an epoch of the memory part.")
@click.option("--memory-epochs", type=POSITIVE, default=10, help="Epochs of the memory part.")
@click.option("--startup-samples", type=POSITIVE, default=1_281_167, help="Samples of the cached index.")
@json_option
def main(file: Path | None, **settings: Any) -> None:
    """Measure lbsgd's input pipeline."""
    if settings["images"] < max(settings["batch"], CLASSES):
        raise click.UsageError(f"--images must be --batch or more, and {CLASSES} or more: each class has an image")
    try:
        report = measure(settings)
    except LbsgdError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    click.echo(table(report))
    if file:
        from lbsgd.record.atomic import write_json

        write_json(file, report)


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """The content of the JSON file."""
    from lbsgd.record.environment import git_commit, processor, versions
    from lbsgd.record.run_record import utc_now

    started, load = utc_now(), os.getloadavg()[0]
    with data_set(settings["images"]) as folder:
        data = describe(folder)
        measured = {part: measure_part(part, folder, settings) for part in PARTS if part in settings["parts"]}
    return {
        "schema": 1,
        "started": started,
        "command": shlex.join(["python", *sys.argv]),
        "settings": settings,
        "data": data,
        **measured,
        "load_average": [load, os.getloadavg()[0]],
        "environment": {
            "versions": versions(),
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "git_commit": git_commit(),
        },
    }


@contextmanager
def data_set(images: int) -> Iterator[Path]:
    """A folder of that many training images, in the page cache; it goes away with the folder around it."""
    from lbsgd.data.procedural import write_photos

    with tempfile.TemporaryDirectory(prefix="lbsgd-benchmark-") as scratch:
        click.echo(f"making {images} images", err=True)
        os.environ["XDG_CACHE_HOME"] = scratch  # where lbsgd keeps its index
        folder = Path(scratch) / "photos"
        write_photos(folder, train=images, val=CLASSES, classes=CLASSES)
        yield folder


def describe(folder: Path) -> dict[str, float]:
    """What the training images are like."""
    import simplejpeg

    files = [path.read_bytes() for path in (folder / "train").glob("*/*")]
    sizes = [simplejpeg.decode_jpeg_header(data)[:2] for data in files]
    return {
        "images": len(files),
        "mean_bytes": sum(map(len, files)) / len(files),
        "mean_width": sum(width for _, width in sizes) / len(files),
        "mean_height": sum(height for height, _ in sizes) / len(files),
    }


def measure_part(part: str, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """One part of the report."""
    click.echo(part, err=True)
    if part == "speed":
        import input_speed

        chosen = {name: settings[name] for name in ("images", "batch", "rounds")}
        return input_speed.measure(folder, **chosen)
    if part == "pixels":
        import input_pixels

        return input_pixels.measure(folder, images=settings["pixel_images"])
    if part == "memory":
        import input_memory

        images, epochs = settings["memory_images"], settings["memory_epochs"]
        return input_memory.measure(folder, folder.parent, images=images, epochs=epochs, batch=settings["batch"])
    import input_startup

    return input_startup.measure(folder.parent, samples=settings["startup_samples"])


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    data = report["data"]
    lines = [
        f"{data['images']} JPEG files of {data['mean_bytes'] / 1000:.0f} KB, {data['mean_width']:.0f} x "
        f"{data['mean_height']:.0f} pixels in the mean, on {report['environment']['processor']}"
    ]
    for part in PARTS:
        if part in report:
            lines.append(importlib.import_module(f"input_{part}").table(report[part]))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
