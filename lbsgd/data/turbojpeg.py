"""A part of a JPEG by the TurboJPEG API, version 3: columns, rows and resolution that nobody needs are never computed.

The library comes in the wheel `turbojpeg` (pip install 'lbsgd[turbojpeg]'), whose Python part has no regions, or with the
system; decode.py does without where there is none. Calls release the interpreter's lock; each thread has its own decompressor.
"""

import ctypes
import threading
from functools import cache
from importlib import metadata

import numpy as np

from lbsgd.data.source import Crop

# From turbojpeg.h.
DECOMPRESS, RGB, FATAL = 1, 0, 1
STOP_ON_WARNING, SUBSAMPLING = 0, 4
UNIT_WIDTHS = (8, 16, 16, 8, 8, 32, 8)
"""Pixels across a coding unit, by subsampling: 4:4:4, 4:2:2, 4:2:0, gray, 4:4:0, 4:1:1, 4:4:1."""

REDUCTIONS = (8, 4, 2, 1)

SMOOTHED = 2
"""Columns beside one that have a part in it when its colour is upsampled."""


class _Region(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "w", "h")]


class _Scale(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("num", "denom")]


@cache
def library() -> ctypes.CDLL | None:
    """libturbojpeg 3 of the wheel, else of the system; None without one."""
    for path in (*_in_wheel(), "libturbojpeg.so.0"):
        try:
            found = ctypes.CDLL(path)
            found.tj3SetCroppingRegion.argtypes = [ctypes.c_void_p, _Region]
        except (OSError, AttributeError):  # absent, or version 2
            continue
        found.tj3Init.restype = ctypes.c_void_p
        found.tj3Get.argtypes = [ctypes.c_void_p, ctypes.c_int]
        found.tj3Set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
        found.tj3SetScalingFactor.argtypes = [ctypes.c_void_p, _Scale]
        found.tj3DecompressHeader.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
        found.tj3Decompress8.argtypes = [
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
            *[ctypes.c_int] * 2,
        ]
        found.tj3GetErrorCode.argtypes = found.tj3GetErrorStr.argtypes = found.tj3Destroy.argtypes = [ctypes.c_void_p]
        found.tj3GetErrorStr.restype = ctypes.c_char_p
        found.tj3Destroy.restype = None
        return found
    return None


def _in_wheel() -> list[str]:
    try:
        wheel = metadata.distribution("turbojpeg")
    except metadata.PackageNotFoundError:
        return []
    return [str(wheel.locate_file(file)) for file in wheel.files or () if file.name.startswith("libturbojpeg")]


class _Decompressor:
    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._handle = self._library.tj3Init(DECOMPRESS)

    def __del__(self) -> None:
        self._library.tj3Destroy(self._handle)

    def decode(self, data: bytes, width: int, crop: Crop, strict: bool) -> np.ndarray:
        """As decode_region."""
        lib, handle = self._library, self._handle
        lib.tj3Set(handle, STOP_ON_WARNING, strict)
        self._require(lib.tj3DecompressHeader(handle, data, len(data)), strict)
        subsampling = lib.tj3Get(handle, SUBSAMPLING)
        if not 0 <= subsampling < len(UNIT_WIDTHS):
            raise ValueError("an unusual subsampling")
        reduction = _reduction(crop)
        top, left = round(crop.top / reduction), round(crop.left / reduction)
        bottom = max(top + 1, round((crop.top + crop.height) / reduction))
        right = max(left + 1, round((crop.left + crop.width) / reduction))
        start, stop = _columns(left, right, -(-width // reduction), UNIT_WIDTHS[subsampling] // reduction or 1)
        pixels = np.empty((bottom - top, stop - start, 3), np.uint8)
        self._require(lib.tj3SetScalingFactor(handle, _Scale(1, reduction)), strict)
        self._require(lib.tj3SetCroppingRegion(handle, _Region(start, top, stop - start, bottom - top)), strict)
        self._require(lib.tj3Decompress8(handle, data, len(data), pixels.ctypes.data, 0, RGB), strict)
        return pixels[:, left - start : right - start]

    def _require(self, code: int, strict: bool) -> None:
        if code and (strict or self._library.tj3GetErrorCode(self._handle) == FATAL):
            raise ValueError(self._library.tj3GetErrorStr(self._handle).decode(errors="replace"))


def _reduction(crop: Crop) -> int:
    """By how much the image may be decoded smaller with the crop no smaller than its least size."""
    return next(
        reduction
        for reduction in REDUCTIONS
        if reduction == 1 or (crop.height >= reduction * crop.least_height and crop.width >= reduction * crop.least_width)
    )


def _columns(left: int, right: int, width: int, unit: int) -> tuple[int, int]:
    """The columns to decode for left .. right: whole units from the left, and what smooth upsampling looks at beside them."""
    start = max(0, left - SMOOTHED)
    return start - start % unit, min(width, right + SMOOTHED)


_threads = threading.local()


def decode_region(data: bytes, width: int, crop: Crop, *, strict: bool) -> np.ndarray:
    """The crop's part of a JPEG that is not CMYK, perhaps at a half, a quarter or an eighth: uint8 [height, width, 3].

    width: of the whole image.

    strict: whether what libjpeg only warns of is an error.
    Raises ValueError with a reason in one line, and where `library()` is None.
    """
    if not hasattr(_threads, "decompressor"):
        found = library()
        if found is None:
            raise ValueError("no libturbojpeg 3")
        _threads.decompressor = _Decompressor(found)
    pixels: np.ndarray = _threads.decompressor.decode(data, width, crop, strict)
    return pixels
