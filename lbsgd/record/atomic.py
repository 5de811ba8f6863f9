"""Writing files so that a reader, or a crash, never sees half of one."""

import json
import os
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`: a reader sees the old content or the new, also after a crash."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: Path, content: object) -> None:
    """Write `content` as indented JSON, atomically. Numbers that are not finite are refused: JSON has none."""
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
