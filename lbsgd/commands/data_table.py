"""What `lbsgd data info` prints: a row a fact, a column a split. A fact that a data set does not have gets no row."""

import math
from collections.abc import Callable
from typing import Any

from lbsgd.commands.text_table import aligned

Facts = dict[str, Any]


def _size(size: float) -> str:
    exponent = min(3, max(0, int(math.log10(max(size, 1)) // 3)))
    return f"{size / 1000**exponent:.4g} {('bytes', 'kB', 'MB', 'GB')[exponent]}"


def _range(pixels: Facts, axis: str) -> str:
    """The median of the headers read and their range, in pixels."""
    if axis not in pixels:
        return "-"
    return f"{pixels[axis]['median']:,} ({pixels[axis]['smallest']:,} to {pixels[axis]['largest']:,})"


ROWS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("images", "samples", "{:,}".format),
    ("classes", "classes", "{:,}".format),
    ("images per class", "samples_per_class", lambda count: f"{count['fewest']:,} to {count['most']:,}"),
    ("shards", "shards", "{:,}".format),
    ("index kept", "indexed", lambda indexed: "yes" if indexed else "no"),
    ("size", "bytes", _size),
    ("mean image", "bytes_per_sample", lambda size: _size(size["mean"])),
    ("median image", "bytes_per_sample", lambda size: _size(size["median"])),
    ("largest image", "bytes_per_sample", lambda size: _size(size["largest"])),
    ("width", "pixels", lambda pixels: _range(pixels, "width")),
    ("height", "pixels", lambda pixels: _range(pixels, "height")),
    ("headers read", "pixels", lambda pixels: f"{pixels['sampled'] - pixels['unreadable']:,} of {pixels['sampled']:,}"),
)


def info_text(facts: Facts) -> str:
    """The table of what `lbsgd.data.info.describe_dataset` tells."""
    splits = facts["train"], facts["validation"]
    rows = [[label, *(text(split[key]) for split in splits)] for label, key, text in ROWS if key in splits[0]]
    table = [["", "train", "validation"], *rows]
    return "\n".join([f"{facts['data']}: {facts['format']}", *aligned(table)])
