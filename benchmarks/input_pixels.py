"""How far lbsgd's training images are from those that Pillow makes of the same crops in floating point, and in which direction.

Pillow decodes all of an image, crops it and resizes each colour with its smoothing bilinear filter, without rounding.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lbsgd.data.augmentation import DRAWS, random_crop, training_image
from lbsgd.data.formats import open_split
from lbsgd.data.layout import find_splits
from lbsgd.policy.philox import Purpose, uniforms
from lbsgd.policy.recipe import Images, load_recipe

SHIFTS = range(-2, 3)
TARGET = 2.5
"""Grey levels, mean over all images."""


def measure(folder: Path, *, images: int) -> dict[str, Any]:
    """The pixel part of the report, over the first `images` training images as they look in epoch 0."""
    split, _ = find_splits(folder)
    source, settings = open_split(split), load_recipe("goyal2017", []).images
    differences, correlations = [], []
    for sample in range(min(images, len(source))):
        ours = training_image(source, sample, settings, seed=0, epoch=0).astype(np.float32)
        theirs = reference(source.encoded(sample), sample, settings)
        differences.append(float(np.abs(ours - theirs).mean()))
        correlations.append(shifted_correlations(ours.mean(axis=2), theirs.mean(axis=2)))
    correlation = np.nanmean(correlations, axis=0)
    peak = np.unravel_index(np.argmax(correlation), correlation.shape)
    return {
        "images": len(differences),
        "mean": float(np.mean(differences)),
        "p99": float(np.quantile(differences, 0.99)),
        "max": max(differences),
        "target_mean": TARGET,
        "peak": [SHIFTS[index] for index in peak],
        "peak_between_pixels": [vertex(correlation[:, 2]), vertex(correlation[2])],
        "correlations": correlation.tolist(),
    }


def reference(data: bytes, sample: int, settings: Images) -> np.ndarray:
    """The training image `sample` by Pillow: float32 [size, size, 3], grey levels."""
    flip, *draws = uniforms(DRAWS, Purpose.AUGMENTATION, seed=0, epoch=0, sample=sample)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    crop = random_crop(image.height, image.width, settings, draws)
    image = image.crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
    size = (settings.size, settings.size)
    colours = [colour.convert("F").resize(size, Image.Resampling.BILINEAR) for colour in image.split()]
    pixels = np.stack([np.asarray(colour) for colour in colours], axis=2)
    return pixels[:, ::-1] if flip < 0.5 else pixels


def shifted_correlations(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """[5, 5]: correlation of the inner part of ours with theirs moved by -2 .. 2 rows and columns."""
    reach = SHIFTS.stop - 1
    inner = ours[reach:-reach, reach:-reach]
    height, width = inner.shape
    return np.array(
        [
            [correlate(inner, theirs[reach + down : reach + down + height, reach + across :][:, :width]) for across in SHIFTS]
            for down in SHIFTS
        ]
    )


def correlate(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's; not a number for an image of one colour."""
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm else float("nan")


def vertex(values: np.ndarray) -> float:
    """Where the parabola through the middle three of five values is highest, in pixels from the middle one."""
    _, before, at, after, _ = values
    return float((before - after) / (2 * (before - 2 * at + after)))


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    down, across = report["peak_between_pixels"]
    return (
        f"{report['images']} images against Pillow in floating point: {report['mean']:.2f} grey levels in the mean (target "
        f"{report['target_mean']}), 99 % of the images {report['p99']:.2f} or less, all {report['max']:.2f} or less; "
        f"correlation highest at a shift of {tuple(report['peak'])}, between pixels at ({down:.3f}, {across:.3f})"
    )
