"""The frameworks behind one contract. Importing this package imports no framework."""

import contextlib
import importlib
import threading
from types import ModuleType

from lbsgd.backends.contract import Backend, ReplicaSpec
from lbsgd.launch.horovod.installed import FRAMEWORKS, require_horovod


def require(framework: str) -> None:
    """Raise EnvironmentNotReady when the framework is not installed or Horovod was not built for it; nothing is imported."""
    if framework in FRAMEWORKS:
        require_horovod(framework)


def load_ahead(framework: str) -> None:
    """Begin to import a backend beside whatever is done until `load`, which waits for the rest and tells what went wrong."""

    def import_it() -> None:
        with contextlib.suppress(Exception):
            _module(framework)

    threading.Thread(target=import_it, name=f"import {framework}").start()


def _module(framework: str) -> ModuleType:
    return importlib.import_module(f"lbsgd.backends.{framework}.backend")


def load(framework: str, spec: ReplicaSpec) -> Backend:
    """Import a backend and build its replica for `spec`. The only place that chooses.

    framework: one of FRAMEWORKS, or "reference". Raises EnvironmentNotReady as `require` does.
    """
    require(framework)
    backend: Backend = _module(framework).create(spec)
    return backend
