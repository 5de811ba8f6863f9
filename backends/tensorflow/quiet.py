"""Importing TensorFlow without its greetings, which every one of 256 ranks would print.

They are written to the file descriptor before TensorFlow reads any setting of its log level.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@contextmanager
def held_stderr() -> Iterator[None]:
    """Hold back what native code writes to standard error; let it out when the block fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            with os.fdopen(os.dup(kept), "wb") as stderr:
                shutil.copyfileobj(held, stderr)
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
