"""`lbsgd data`: make data sets."""

import json
from pathlib import Path

import click


@click.group()
def data() -> None:
    """Make data sets."""


@data.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a sentence.")
def demo(folder: Path, as_json: bool) -> None:
    """Write a small real data set to DIR: handwritten digits.

    They are the 1,797 images of 8 x 8 pixels that come with scikit-learn; nothing is downloaded. A DIR that
    already holds them is left as it is.
    """
    from lbsgd.data.demo import CLASSES, IMAGES, write_demo

    created = write_demo(folder)
    train, validation = IMAGES
    if as_json:
        facts = {"folder": str(folder), "created": created, "train": train, "validation": validation}
        click.echo(json.dumps(facts | {"classes": len(CLASSES)}))
    else:
        verb = "wrote" if created else "is there already:"
        click.echo(f"{folder}: {verb} {train} images to train on, {validation} to validate, {len(CLASSES)} classes")
