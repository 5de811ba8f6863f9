"""The glyphs: the same bytes everywhere, every class alike, and no two images the same."""

import hashlib

import numpy as np
import pytest
from PIL import features

from lbsgd.data import glyphs, open_dataset
from lbsgd.data.demo import DEMOS, Demo, write_demo
from lbsgd.data.glyphs import CLASSES, SIZE, glyph

DIGEST = "c4792f050ea3adf84df7c268d4bda7c0849f1cfe1b3e8b5a8d2d6b2f0d904bb5"
"""Of the first hundred images of both splits, by Pillow's FreeType of constraints.txt and matplotlib's typefaces."""


def test_the_images_are_the_same_bytes_on_every_machine():
    digest = hashlib.sha256()
    for split in glyphs.EACH:
        for number in range(100):
            digest.update(glyph(split, number).tobytes())
    assert digest.hexdigest() == DIGEST, f"FreeType {features.version('freetype2')}"


def test_an_image_depends_on_seed_split_and_number_alone():
    assert glyph("train", 7).tobytes() == glyph("train", 7).tobytes()
    drawn = [glyph("train", 7), glyph("val", 7), glyph("train", 7 + len(CLASSES)), glyph("train", 7, seed=1)]
    assert len({image.tobytes() for image in drawn}) == 4
    assert all(image.shape == (SIZE, SIZE) and image.dtype == np.uint8 for image in drawn)


def test_glyphs_of_a_class_are_more_alike_than_those_of_two():
    """Means over many images: what is left of the class when typeface, place and noise are averaged away."""
    means = [np.mean([glyph("train", label + len(CLASSES) * i) for i in range(60)], 0) for label in (0, 10, 25)]
    again = [np.mean([glyph("val", label + len(CLASSES) * i) for i in range(60)], 0) for label in (0, 10, 25)]
    distance = np.array([[np.abs(one - other).mean() for other in again] for one in means])
    assert (distance.argmin(1) == [0, 1, 2]).all()


def test_the_demo_has_every_class_in_both_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(glyphs, "EACH", {"train": 3, "val": 2})
    monkeypatch.setitem(DEMOS, "glyphs", Demo(CLASSES, (102, 68), glyphs.write))
    assert write_demo(tmp_path / "glyphs", "glyphs")
    dataset = open_dataset(str(tmp_path / "glyphs"))
    assert (len(dataset.train), len(dataset.validation), dataset.train.classes) == (102, 68, CLASSES)
    assert not write_demo(tmp_path / "glyphs", "glyphs")


def test_without_matplotlib_the_way_out_is_named(tmp_path, monkeypatch):
    import sys

    from lbsgd.errors import EnvironmentNotReady

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(EnvironmentNotReady, match=r"pip install 'lbsgd\[report\]'"):
        write_demo(tmp_path / "glyphs", "glyphs")
    assert not (tmp_path / "glyphs").exists()
