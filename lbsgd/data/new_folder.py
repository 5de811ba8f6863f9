"""A new folder of images that is there whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lbsgd.errors import EnvironmentNotReady, UsageError


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `folder` at the end, or goes away when something fails.

    Raises UsageError when `folder` is not empty, EnvironmentNotReady when the place cannot be written to.
    """
    folder = folder.resolve()
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{str(folder)!r} is not empty; name a new or an empty folder")
        partial.mkdir(parents=True)
        yield partial
        partial.replace(folder)
    except OSError as error:
        raise EnvironmentNotReady(
            f"cannot write {str(folder)!r}: {error.strerror}; name a folder below one you may write to"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
