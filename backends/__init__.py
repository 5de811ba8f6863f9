"""The frameworks behind one contract. Importing this package imports no framework."""

import importlib

from lbsgd.backends.contract import Backend, Job
from lbsgd.launch.horovod.installed import require_horovod

FRAMEWORKS = ("torch", "tensorflow")


def load(framework: str, job: Job) -> Backend:
    """Import a framework and build its replica for `job`. The only place that chooses.

    Raises EnvironmentNotReady when the framework is not installed or Horovod was not built for it.
    """
    require_horovod(framework)
    return importlib.import_module(f"lbsgd.backends.{framework}.backend").create(job)
