"""Horovod's released source: got by pip or from a file, verified, unpacked, and edited so that it compiles.

The edits are data. One whose old text is not where it is expected stops the build: a half-edited source would
compile into something nobody looked at.
"""

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lbsgd.errors import EnvironmentNotReady
from lbsgd.launch.horovod.installed import BUILD_FACTS

VERSION = "0.28.1"
SDIST = f"horovod-{VERSION}.tar.gz"
SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"


@dataclass(frozen=True)
class Edit:
    """One replacement in a source file; `old` must occur there exactly once."""

    path: str
    old: str
    new: str
    why: str


EDITS = (
    Edit(
        "CMakeLists.txt",
        "set(CMAKE_CXX_STANDARD 14)",
        "set(CMAKE_CXX_STANDARD 17)",
        "the headers of torch >= 2.1 and of TensorFlow >= 2.10 are C++17",
    ),
    Edit(
        "horovod/torch/CMakeLists.txt",
        "set(CMAKE_CXX_STANDARD 14)",
        "set(CMAKE_CXX_STANDARD 17)",
        "the headers of torch >= 2.1 are C++17",
    ),
    Edit(
        "horovod/common/ops/cuda/CMakeLists.txt",
        "set(CMAKE_CUDA_STANDARD 11)",
        "set(CMAKE_CUDA_STANDARD 17)",
        "CUDA 13's own headers need C++17",
    ),
    Edit(
        "CMakeLists.txt",
        "project(horovod CXX)\n",
        'project(horovod CXX)\nset(CMAKE_BUILD_RPATH "$ORIGIN/../../../..")\n',
        "look for an MPI that pip installed in the environment of the wheel, not in the one that built it",
    ),
    Edit(
        "setup.py",
        "else 'RelWithDebInfo'",
        "else 'Release'",
        "the same optimisation without debug information, which takes a third of the compiler's time",
    ),
    Edit(
        "CMakeLists.txt",
        "# TF\nadd_subdirectory(horovod/tensorflow)\n",
        """\
set(COMMON_SOURCES ${SOURCES})
set(SOURCES $<TARGET_OBJECTS:horovod_common>)
add_definitions(-DEIGEN_MAX_ALIGN_BYTES=64)
add_subdirectory(horovod/tensorflow)
add_library(horovod_common OBJECT ${COMMON_SOURCES})
target_include_directories(horovod_common PRIVATE "${EIGEN_INCLUDE_PATH}" "${FLATBUFFERS_INCLUDE_PATH}")
""",
        "compile what the frameworks share once; TensorFlow's Eigen and its alignment, as its headers ask for, go for all",
    ),
    Edit(
        "horovod/torch/CMakeLists.txt",
        "from distutils.sysconfig import get_python_inc; print(get_python_inc())",
        "import sysconfig; print(sysconfig.get_path('include'))",
        "Python 3.12 has no distutils",
    ),
    Edit(
        "horovod/runner/js_run.py",
        "from distutils.spawn import find_executable",
        "from shutil import which as find_executable",
        "Python 3.12 has no distutils, and every horovodrun imports this module",
    ),
    Edit(
        "horovod/torch/CMakeLists.txt",
        "elseif (Pytorch_CUDA AND NOT HAVE_CUDA)\n    add_cuda()\n",
        "elseif (Pytorch_CUDA AND NOT HAVE_CUDA)\n    set(SOURCES ${COMMON_SOURCES})\n    add_cuda()\n",
        "CPU operations beside a CUDA torch are compiled in another way than those that are shared",
    ),
    Edit(
        "horovod/common/ops/cuda/CMakeLists.txt",
        "add_library(compatible_horovod_cuda_kernels cuda_kernels.cu)",
        "add_library(compatible_horovod_cuda_kernels EXCLUDE_FROM_ALL cuda_kernels.cu)",
        "the kernels for the ABI of 2015, which no framework has any more",
    ),
    Edit(
        "setup.cfg",
        "[egg_info]\n",
        f"[options.package_data]\nhorovod = {BUILD_FACTS}\n\n[egg_info]\n",
        "what the wheel was built for travels with it",
    ),
)

XLA_EDIT = Edit(
    "horovod/tensorflow/CMakeLists.txt",
    'list(APPEND TF_SOURCES "${PROJECT_SOURCE_DIR}/horovod/tensorflow/xla_mpi_ops.cc")\n',
    "",
    "an optional XLA operator that includes LLVM and highwayhash headers; newer TensorFlow wheels lack them",
)


def edits_for(tensorflow: str | None) -> tuple[Edit, ...]:
    """The edits that the source needs for a TensorFlow version (None: built without)."""
    if tensorflow is None or tuple(map(int, tensorflow.split(".")[:2])) < (2, 16):
        return EDITS
    return (*EDITS, XLA_EDIT)


def edits_digest(edits: tuple[Edit, ...]) -> str:
    """SHA-256 over what the edits change."""
    return hashlib.sha256(json.dumps([(e.path, e.old, e.new) for e in edits]).encode()).hexdigest()


def apply_edits(source: Path, edits: tuple[Edit, ...]) -> None:
    """Apply `edits` to the files under `source`.

    Raises EnvironmentNotReady when a file lacks the text to replace, or has it more than once.
    """
    for edit in edits:
        path = source / edit.path
        text = path.read_text() if path.exists() else ""
        if text.count(edit.old) != 1:
            raise EnvironmentNotReady(
                f"{edit.path} has {edit.old.strip()!r} {text.count(edit.old)} times, not once: "
                f"this is not the source of Horovod {VERSION} as released"
            )
        path.write_text(text.replace(edit.old, edit.new))


def fetch(folder: Path, index: bool = True) -> Path:
    """The verified sdist in `folder`, downloaded by pip unless it lies there already.

    index: whether pip may ask a package index for it.
    Raises EnvironmentNotReady when it cannot be had.
    """
    sdist = folder / SDIST
    if not sdist.exists() and not index:
        raise EnvironmentNotReady(f"--no-index, and {SDIST} is not in {folder}; give the file with --sdist")
    if not sdist.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            download(Path(scratch))
            (Path(scratch) / SDIST).replace(sdist)
    verify(sdist)
    return sdist


def download(folder: Path) -> None:
    """Let pip download the sdist into `folder`, checking its hash."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"horovod=={VERSION} --hash=sha256:{SHA256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--dest", str(folder), "--requirement", str(requirements)]
    pip += ["--quiet", "--require-hashes", "--no-deps", "--no-binary", "horovod", "--no-build-isolation"]
    finished = subprocess.run(pip, capture_output=True, text=True)
    if finished.returncode != 0:
        reasons = [line.strip() for line in finished.stderr.splitlines() if "ERROR" in line]
        raise EnvironmentNotReady(f"pip could not download {SDIST} ({' '.join(reasons)}); give the file with --sdist")


def verify(sdist: Path) -> None:
    """Refuse a file that is not the sdist this table of edits was written for.

    Raises EnvironmentNotReady.
    """
    found = hashlib.sha256(sdist.read_bytes()).hexdigest()
    if found != SHA256:
        raise EnvironmentNotReady(f"{sdist} has SHA-256 {found}, the released {SDIST} has {SHA256}; give that one with --sdist")


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack a verified sdist under `folder` and return the source's folder."""
    # Python before 3.11.4, such as Debian 12's, has no filters; a file that is verified needs none.
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)
    return folder / SDIST.removesuffix(".tar.gz")
