"""Small grey images of letters and figures in many typefaces, bent and noisy: a data set on which a minute of training tells.

It needs no download: the typefaces are those that matplotlib ships. Every number comes from (seed, split, image) and pixels are
computed in integers, so that the same version of Pillow's FreeType makes the same bytes on every machine.
"""

import math
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lbsgd.errors import EnvironmentNotReady
from lbsgd.policy.philox import Purpose, uniforms, words

CLASSES = tuple("23456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""None is another's twin, as 0 and 1 would be."""

EACH = {"train": 480, "val": 150}
"""Images of a class."""

IMAGES = (EACH["train"] * len(CLASSES), EACH["val"] * len(CLASSES))
"""Of train/ and val/."""

SIZE = 12
"""Pixels a side."""

FAMILIES = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral")
STYLES = {
    "DejaVuSans": ("", "-Bold", "-BoldOblique", "-Oblique"),
    "DejaVuSansMono": ("", "-Bold", "-BoldOblique", "-Oblique"),
    "DejaVuSerif": ("", "-Bold", "-BoldItalic", "-Italic"),
    "STIXGeneral": ("", "Bol", "BolIta", "Italic"),
}
FONTS = (*(family + style for family in FAMILIES for style in STYLES[family]), "cmb10", "cmr10", "cmss10", "cmti10", "cmtt10")

CANVAS, POINT = 64, 48
"""Pixels a side of what a glyph is drawn on, and its height."""
OVERSAMPLING = 4
ONE = 1 << 12
"""1 in fixed point."""
MESH = 4
"""Points a side of the mesh that bends a glyph."""
NUMBERS = 144
"""Random numbers of an image; its noise follows in the same stream."""

ROTATION, STRETCH, ASPECT, SHEAR, SHIFT, BEND = math.radians(12), 0.15, 0.12, 0.15, 4.0, 1.2
"""Standard deviations: of the angle, of logarithms, of a slope, and of canvas pixels."""
NOISE = 20
"""Standard deviation of a pixel's noise, of 255."""
FAINTEST = 0.5
"""Lowest contrast; the highest is 1."""
CLUTTERED = 0.25
"""Share of the images with a stray stroke."""


def write(folder: Path) -> None:
    """Write train/<class>/*.png and val/<class>/*.png to an empty folder. Raises EnvironmentNotReady without matplotlib."""
    _typefaces()
    for split, each in EACH.items():
        for label, character in enumerate(CLASSES):
            (folder / split / character).mkdir(parents=True)
            for number in range(each):
                image = Image.fromarray(glyph(split, number * len(CLASSES) + label))
                image.save(folder / split / character / f"{number:05}.png")


def glyph(split: str, number: int, *, seed: int = 0) -> np.ndarray:
    """Image `number` of a split, uint8 [SIZE, SIZE]; its class is `number` modulo the number of classes."""
    key = {"seed": seed, "epoch": list(EACH).index(split), "sample": number}
    numbers = iter(uniforms(NUMBERS, Purpose.GLYPH, **key))

    def spread() -> float:
        """Roughly normal, of deviation 1, within 3: sums only, which are the same on every machine."""
        return 2 * (next(numbers) + next(numbers) + next(numbers) - 1.5)

    font, stroke = int(next(numbers) * len(FONTS)), int(next(numbers) * 2)
    mask = _mask(font, CLASSES[number % len(CLASSES)], stroke)
    if next(numbers) < CLUTTERED:
        mask = _with_stroke(mask, [next(numbers) for _ in range(4)])
    size, aspect = math.exp(STRETCH * spread()), math.exp(ASPECT * spread())
    angle, shear = ROTATION * spread(), SHEAR * spread()
    cosine, sine = math.cos(angle) / size, math.sin(angle) / size
    matrix = ((cosine * aspect, sine * aspect + shear), (-sine / aspect, cosine / aspect))
    shift = SHIFT * spread(), SHIFT * spread()
    mesh = np.array([round(ONE * BEND * spread() / 2) for _ in range(2 * MESH * MESH)], np.int64).reshape(2, MESH, MESH)
    contrast = FAINTEST + (1 - FAINTEST) * next(numbers)
    pixels = _reduced(_sampled(mask, matrix, shift, mesh))
    noise = words(NUMBERS + SIZE * SIZE, Purpose.GLYPH, **key)[NUMBERS:].astype("<u8").view(np.uint8).reshape(-1, 8)
    # The sum of eight bytes is nearly normal, of deviation 209.
    grey = round(ONE * contrast) * pixels // ONE + (noise.sum(1).reshape(SIZE, SIZE).astype(np.int64) - 1020) * NOISE // 209
    return np.clip(grey, 0, 255).astype(np.uint8)


def _typefaces() -> Path:
    """The folder of matplotlib's typefaces. Raises EnvironmentNotReady without matplotlib."""
    try:
        import matplotlib
    except ImportError as error:
        raise EnvironmentNotReady(f"the typefaces come with matplotlib ({error}); pip install 'lbsgd[report]'") from error
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@cache
def _mask(font: int, character: str, stroke: int) -> np.ndarray:
    """The character in the middle of a canvas, int64 [CANVAS, CANVAS] from 0 to 255. stroke: pixels added on all sides."""
    canvas = Image.new("L", (CANVAS, CANVAS))
    typeface = ImageFont.truetype(str(_typefaces() / f"{FONTS[font]}.ttf"), POINT, layout_engine=ImageFont.Layout.BASIC)
    middle = (CANVAS // 2, CANVAS // 2)
    ImageDraw.Draw(canvas).text(middle, character, 255, typeface, anchor="mm", stroke_width=stroke)
    return np.asarray(canvas, np.int64)


def _with_stroke(mask: np.ndarray, ends: list[float]) -> np.ndarray:
    """The mask with a thin line between two points, at half strength."""
    line = Image.new("L", (CANVAS, CANVAS))
    ImageDraw.Draw(line).line([int(CANVAS * end) for end in ends], 128, 2)
    return np.maximum(mask, np.asarray(line, np.int64))


def _sampled(
    mask: np.ndarray, matrix: tuple[tuple[float, float], ...], shift: tuple[float, float], mesh: np.ndarray
) -> np.ndarray:
    """The mask seen through an affine map of the image around its middle and a bent mesh: int64 [SIZE * OVERSAMPLING] squared.

    shift: canvas pixels. mesh: displacements in fixed-point canvas pixels. All of it is integer arithmetic.
    """
    side = SIZE * OVERSAMPLING
    place = ((2 * np.arange(side, dtype=np.int64) + 1) * CANVAS * ONE) // (2 * side) - CANVAS * ONE // 2
    across, down = np.meshgrid(place, place)
    bent = [_interpolated(one, side) for one in mesh]
    source = [
        (round(ONE * row[0]) * across + round(ONE * row[1]) * down) // ONE + round(ONE * (CANVAS / 2 - 0.5 + offset)) + bend
        for row, offset, bend in zip(matrix, shift, bent, strict=True)
    ]
    padded = np.pad(mask, ((1, 2), (1, 2)))
    (column, right), (row, below) = (np.divmod(np.clip(one, -ONE, CANVAS * ONE) + ONE, ONE) for one in source)
    top = padded[row, column] * (ONE - right) + padded[row, column + 1] * right
    bottom = padded[row + 1, column] * (ONE - right) + padded[row + 1, column + 1] * right
    return (top * (ONE - below) + bottom * below) // ONE**2


def _interpolated(mesh: np.ndarray, side: int) -> np.ndarray:
    """A [MESH, MESH] array of int64 at side x side points between its corners, linear in both directions."""
    place = np.arange(side, dtype=np.int64) * (MESH - 1) * ONE // side
    first, part = np.divmod(place, ONE)
    rows = mesh[first] * (ONE - part)[:, None] + mesh[first + 1] * part[:, None]
    columns = rows[:, first] * (ONE - part) + rows[:, first + 1] * part
    return columns // ONE**2


def _reduced(image: np.ndarray) -> np.ndarray:
    """Means of squares of OVERSAMPLING pixels: int64 [SIZE, SIZE]."""
    return image.reshape(SIZE, OVERSAMPLING, SIZE, OVERSAMPLING).sum((1, 3)) // OVERSAMPLING**2
