"""What Horovod would be built with here: this interpreter's frameworks, the MPI and compilers on PATH, CUDA.

Everything that is missing is found in one look and reported together. No framework is imported.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from lbsgd.errors import OPEN_MPI, EnvironmentNotReady
from lbsgd.launch.horovod.cuda import Cuda, find_cuda
from lbsgd.launch.horovod.installed import installed_frameworks

BUILD_PACKAGES = ("pip", "setuptools", "wheel", "packaging", "cloudpickle", "psutil", "pyyaml", "cffi")
# Horovod's setup.py does not refuse an older CMake: it installs one of its own choice.
OLDEST_CMAKE = (3, 13)
MPI_VERSIONS = {
    "Open MPI": re.compile(r"Open MPI\)? v?(\d[\w.]*)"),
    "MPICH": re.compile(r"(?:MPICH|HYDRA).*?Version:\s*(\d[\w.]*)", re.DOTALL),
}


@dataclass(frozen=True)
class Mpi:
    """An MPI installation. `prefix` is None when it lies in this Python environment, and so moves with it."""

    name: str
    version: str
    prefix: Path | None

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Toolchain:
    """Everything a build depends on. `cuda` is None for CPU operations; `warnings` are for the user."""

    frameworks: dict[str, str]
    mpi: Mpi
    compiler: str
    cuda: Cuda | None
    warnings: tuple[str, ...]


def inspect_toolchain(only: tuple[str, ...], operations: str) -> Toolchain:
    """Find what to build with.

    only: the frameworks to build for; empty means all that are installed.
    operations: "cpu", "nccl", or "auto" for NCCL where the frameworks, CUDA and NCCL allow it.
    Raises EnvironmentNotReady with all that is missing and what to do about each.
    """
    missing: list[str] = []
    frameworks = find_frameworks(only, missing)
    check_python(missing)
    compiler = find_compiler(missing)
    check_cmake_and_make(missing)
    mpi = find_mpi(missing)
    cuda, warnings = find_cuda(tuple(frameworks), operations, missing)
    if missing or mpi is None or compiler is None:
        raise EnvironmentNotReady("Horovod cannot be built here:\n" + "\n".join(f"  - {line}" for line in missing))
    return Toolchain(frameworks, mpi, compiler, cuda, tuple(warnings))


def find_frameworks(only: tuple[str, ...], missing: list[str]) -> dict[str, str]:
    """Versions of the frameworks to build for."""
    found = installed_frameworks()
    if not found and not only:
        missing.append("no framework is installed: pip install 'lbsgd[torch]' or 'lbsgd[tensorflow]'")
    missing += [f"{name} is not installed: pip install 'lbsgd[{name}]'" for name in only if name not in found]
    return {name: version for name, version in found.items() if not only or name in only}


def check_python(missing: list[str]) -> None:
    """The packages that Horovod's setup.py uses, and Python's headers."""
    absent = [name for name in BUILD_PACKAGES if not has_distribution(name)]
    if absent:
        missing.append(f"Python packages {', '.join(absent)} are not installed: pip install 'lbsgd[mpi]'")
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").exists():
        missing.append(f"no Python.h in {include}: install Python's headers (python3-dev on Debian)")


def has_distribution(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def find_compiler(missing: list[str]) -> str | None:
    """The C++ compiler that CMake takes ($CXX, else c++, else g++) with its major version, "g++ 12"."""
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["c++", "g++"]
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        missing.append(f"no C++ compiler {' or '.join(names)} on PATH: install one (g++ on Debian) or load a module")
        return None
    family = "clang++" if "clang" in output_of(path, "--version") else "g++"
    return f"{family} {output_of(path, '-dumpversion').partition('.')[0].strip()}"


def check_cmake_and_make(missing: list[str]) -> None:
    """CMake, and make: Horovod hands CMake make's own arguments, so ninja will not do."""
    cmake = shutil.which("cmake")
    version = re.search(r"version (\d+)\.(\d+)", output_of(cmake, "--version")) if cmake else None
    oldest = ".".join(map(str, OLDEST_CMAKE))
    if version is None:
        missing.append(f"no cmake on PATH: activate this environment after pip install 'lbsgd[mpi]' (>= {oldest})")
    elif tuple(map(int, version.groups())) < OLDEST_CMAKE:
        missing.append(f"{cmake} is too old (>= {oldest} is needed): pip install 'lbsgd[mpi]'")
    if shutil.which("make") is None:
        missing.append("no make on PATH: install it (make on Debian)")


def find_mpi(missing: list[str]) -> Mpi | None:
    """The MPI whose compiler wrapper is first on PATH; mpirun must be of the same one."""
    wrapper, launcher = shutil.which("mpicxx"), shutil.which("mpirun")
    advice = f"load the cluster's MPI module, or pip install {OPEN_MPI} and activate this environment"
    if wrapper is None or launcher is None:
        absent = " and no ".join(name for name, path in (("mpicxx", wrapper), ("mpirun", launcher)) if not path)
        missing.append(f"no {absent} on PATH: {advice}")
        return None
    built, started = wrapper_version(wrapper), recognize_mpi(output_of(launcher, "--version"))
    if built is None:
        missing.append(f"{wrapper} is of neither {' nor '.join(MPI_VERSIONS)}: {advice}")
        return None
    if built != started:
        other = " ".join(started) if started else "another MPI"
        missing.append(f"{wrapper} is {' '.join(built)} but {launcher} is {other}: put one MPI first on PATH")
        return None
    prefix = Path(wrapper).resolve().parent.parent
    return Mpi(*built, None if prefix == Path(sys.prefix).resolve() else prefix)


def wrapper_version(wrapper: str) -> tuple[str, str] | None:
    """The MPI behind a compiler wrapper, by Open MPI's option or the program MPICH installs beside it."""
    mpichversion = Path(wrapper).with_name("mpichversion")
    asked = recognize_mpi(output_of(wrapper, "--showme:version"))
    return asked or (recognize_mpi(output_of(str(mpichversion))) if mpichversion.exists() else None)


def recognize_mpi(text: str) -> tuple[str, str] | None:
    """Name and version of the MPI that printed `text`."""
    for name, pattern in MPI_VERSIONS.items():
        if match := pattern.search(text):
            return name, match[1]
    return None


def output_of(*command: str) -> str:
    """What a command prints, on either stream; it may fail."""
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return finished.stdout
