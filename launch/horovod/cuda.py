"""CUDA and NCCL for a Horovod that reduces on GPUs, and whether to build that one.

One Horovod has one CUDA, so all frameworks in it must be built for the same major version of it. Where a CUDA
framework stands on a machine without a GPU, CPU operations are good enough and only a warning is due.
"""

import os
import re
import runpy
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from lbsgd.launch.horovod.installed import installed

# Built for when no GPU is here to ask: A100 and H100. The last also gets PTX, for newer ones.
DEFAULT_ARCHITECTURES = "80,90"


@dataclass(frozen=True)
class Nccl:
    """An NCCL: the folder of nccl.h, and the shared library's file."""

    version: str
    include: Path
    library: Path


@dataclass(frozen=True)
class Cuda:
    """A CUDA toolkit, the NCCL to link, and the compute capabilities to compile for ("80,90")."""

    version: str
    home: Path
    nccl: Nccl
    architectures: str


def find_cuda(frameworks: tuple[str, ...], operations: str, missing: list[str]) -> tuple[Cuda | None, list[str]]:
    """The CUDA to build with, or None for CPU operations; and warnings.

    What stands in the way of NCCL is appended to `missing` when it was asked for or a GPU is here; it is a
    warning otherwise.
    """
    cuda_versions = {name: framework_cuda(name) for name in frameworks}
    if operations == "cpu" or (operations == "auto" and not any(cuda_versions.values())):
        return None, []
    obstacles = framework_obstacles(cuda_versions)
    wanted = next(iter(cuda_versions.values()), None)
    cuda = None if obstacles or wanted is None else find_toolkit_and_nccl(wanted, obstacles)
    if cuda is not None:
        return cuda, []
    if operations == "nccl" or gpu_present():
        missing += [f"{line} (or give --operations cpu)" for line in obstacles]
        return None, []
    return None, [f"{line}; building CPU operations, as there is no GPU here" for line in obstacles]


def framework_cuda(name: str) -> str | None:
    """The CUDA version that an installed framework was built for, read from constants in its wheel."""
    wheel = installed(name)
    if wheel is None:
        return None
    if name == "torch":
        return runpy.run_path(str(wheel.locate_file("torch/version.py")))["cuda"]
    constants = runpy.run_path(str(wheel.locate_file("tensorflow/python/platform/build_info.py")))
    return constants["build_info"].get("cuda_version")


def framework_obstacles(cuda_versions: dict[str, str | None]) -> list[str]:
    """Why frameworks with these CUDA versions cannot share a Horovod with NCCL."""
    if len({version and major(version) for version in cuda_versions.values()}) > 1:
        each = ", ".join(f"{name} {f'CUDA {v}' if v else 'CPU'}" for name, v in cuda_versions.items())
        return [f"the frameworks are built for different devices ({each}): build for one with --framework"]
    return [f"{name} is a CPU build: install its CUDA build" for name, version in cuda_versions.items() if not version]


def find_toolkit_and_nccl(wanted: str, obstacles: list[str]) -> Cuda | None:
    """The toolkit for CUDA `wanted` and an NCCL; what is not there is appended to `obstacles`."""
    toolkit = find_toolkit()
    nccl = find_nccl(wanted, toolkit[0] if toolkit else None)
    if toolkit is None:
        obstacles.append(f"no nvcc: install the CUDA {major(wanted)} toolkit and set CUDA_HOME to its folder")
    elif major(toolkit[1]) != major(wanted):
        obstacles.append(f"the toolkit in {toolkit[0]} is CUDA {toolkit[1]}, the frameworks are CUDA {wanted}: set CUDA_HOME")
    if nccl is None:
        obstacles.append(f"no NCCL: pip install nvidia-nccl-cu{major(wanted)}")
    if obstacles or toolkit is None or nccl is None:
        return None
    home, version = toolkit
    return Cuda(version, home, nccl, architectures())


def find_toolkit() -> tuple[Path, str] | None:
    """Folder and version of the CUDA toolkit: $CUDA_HOME, the nvcc on PATH, or /usr/local/cuda."""
    named = [os.environ[name] for name in ("HOROVOD_CUDA_HOME", "CUDA_HOME") if name in os.environ]
    candidates = [f"{home}/bin/nvcc" for home in named] + ["nvcc", "/usr/local/cuda/bin/nvcc"]
    found = next(filter(None, map(shutil.which, candidates)), None)
    if found is None:
        return None
    # nvcc itself says where its toolkit is: the one on PATH may be a link, or a script that starts another.
    nvcc = Path(found).resolve()
    said = subprocess.run([nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True).stderr
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    top = re.search(r"^#\$ TOP=(.+)$", said, re.MULTILINE)
    home = Path(top[1].strip()) if top else nvcc.parent.parent
    release = re.search(r"release (\d+\.\d+)", version)
    return (home.resolve(), release[1]) if release else None


def find_nccl(cuda: str, cuda_home: Path | None) -> Nccl | None:
    """The NCCL that pip installed for CUDA `cuda` (it comes with torch), else the system's."""
    site = pip_nccl(cuda)
    roots = [Path(os.environ["HOROVOD_NCCL_HOME"])] if "HOROVOD_NCCL_HOME" in os.environ else []
    roots += [*([site] if site else []), *([cuda_home] if cuda_home else []), Path("/usr"), Path("/usr/local")]
    for root in roots:
        header = root / "include" / "nccl.h"
        libraries = [
            path for folder in ("lib", "lib64", "lib/x86_64-linux-gnu") for path in (root / folder).glob("libnccl.so*")
        ]
        if header.exists() and libraries:
            return Nccl(nccl_version(header), header.parent, libraries[0])
    return None


def pip_nccl(cuda: str) -> Path | None:
    """The folder of the NCCL that pip installed, wherever this interpreter finds its packages: a venv may lie upon another."""
    try:
        return Path(str(metadata.distribution(f"nvidia-nccl-cu{major(cuda)}").locate_file("nvidia/nccl")))
    except metadata.PackageNotFoundError:
        return None


def nccl_version(header: Path) -> str:
    numbers = dict(re.findall(r"#define NCCL_(MAJOR|MINOR|PATCH)\s+(\d+)", header.read_text()))
    return ".".join(numbers[part] for part in ("MAJOR", "MINOR", "PATCH"))


def gpu_present() -> bool:
    """Whether this machine has an NVIDIA GPU."""
    return Path("/dev/nvidia0").exists()


def architectures() -> str:
    """Compute capabilities of the GPUs here, as Horovod's build wants them ("80,90")."""
    smi = shutil.which("nvidia-smi")
    query = [smi, "--query-gpu=compute_cap", "--format=csv,noheader"] if smi else ["true"]
    found = re.findall(r"^(\d+)\.(\d)$", subprocess.run(query, capture_output=True, text=True).stdout, re.MULTILINE)
    return ",".join(sorted({"".join(pair) for pair in found}, key=int)) or DEFAULT_ARCHITECTURES


def major(version: str) -> str:
    return version.partition(".")[0]
