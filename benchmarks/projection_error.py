"""Writes docs/projection.md: what `lbsgd project` predicts for every published row, beside what was measured.

Needs nothing but lbsgd: the constants were fitted by projection_fit.py.
"""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, median

from projection_fit_files import HELD_OUT
from published_scaling import UNSTATED_GBIT, Row, read_rows

from lbsgd.projection.calibration import Constants, constants_from, published

ROOT = Path(__file__).parents[1]
TEXT = Path(__file__).with_name("projection_text.md")
PAGE = ROOT / "docs/projection.md"
