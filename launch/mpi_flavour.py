"""Whose mpirun it is: the four that lbsgd writes command lines for do not agree on their options."""

import re
import shutil
import subprocess
from typing import Literal, get_args

from lbsgd.errors import OPEN_MPI, EnvironmentNotReady

Flavour = Literal["openmpi4", "openmpi5", "mpich", "intel"]
"""openmpi4: Open MPI up to version 4. openmpi5: from version 5 on, where PRRTE starts the ranks. mpich: MPICH and MVAPICH."""

FLAVOURS: tuple[Flavour, ...] = get_args(Flavour)


def require_mpirun() -> str:
    """The path of mpirun.

    Raises EnvironmentNotReady when there is none on PATH.
    """
    path = shutil.which("mpirun")
    if path is None:
        raise EnvironmentNotReady(
            f"no mpirun on PATH; activate the environment that has it, load the cluster's MPI module, or pip install {OPEN_MPI}"
        )
    return path


def find_flavour() -> Flavour:
    """The flavour of the mpirun that is first on PATH.

    Raises EnvironmentNotReady when there is none, and when it is of another MPI.
    """
    path = require_mpirun()
    said = subprocess.run([path, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    flavour = flavour_of(said)
    if flavour is None:
        begin = said.strip().partition("\n")[0]
        raise EnvironmentNotReady(
            f"{path} is of an MPI that lbsgd does not know: {begin!r}; put an Open MPI, MPICH or Intel MPI first on PATH, or "
            f"name what it is like with lbsgd launch mpirun --mpi {'|'.join(FLAVOURS)}"
        )
    return flavour


def flavour_of(version: str) -> Flavour | None:
    """The flavour of the mpirun that says `version` when it is asked for it; None for one that is not known.

    IBM's Spectrum MPI is Open MPI 4. MPICH and MVAPICH show the build of Hydra, their launcher.
    """
    if match := re.search(r"Open MPI\) v?(\d+)", version):
        return "openmpi5" if int(match[1]) >= 5 else "openmpi4"
    if "IBM Spectrum MPI" in version:
        return "openmpi4"
    if "Intel(R) MPI" in version:
        return "intel"
    return "mpich" if "HYDRA build details" in version else None
