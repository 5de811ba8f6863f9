"""The frameworks behind one contract. Importing this package imports no framework."""

import importlib

from lbsgd.backends.contract import Backend, ReplicaSpec
from lbsgd.launch.horovod.installed import FRAMEWORKS, require_horovod


def require(framework: str) -> None:
    """Raise EnvironmentNotReady when the framework is not installed or Horovod was not built for it; nothing is imported."""
    if framework in FRAMEWORKS:
        require_horovod(framework)


def load(framework: str, spec: ReplicaSpec) -> Backend:
    """Import a backend and build its replica for `spec`. The only place that chooses.

    framework: one of FRAMEWORKS, or "reference". Raises EnvironmentNotReady as `require` does.
    """
    require(framework)
    return importlib.import_module(f"lbsgd.backends.{framework}.backend").create(spec)
