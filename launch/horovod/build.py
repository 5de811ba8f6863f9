"""Building Horovod's wheel for a toolchain, once: a cache keeps it under the name of all it was built with.

A cache entry is a folder with the wheel and its build.log. The wheel is moved there when it is complete, so
its presence means that the build succeeded.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import psutil
from filelock import AcquireReturnProxy, FileLock

import lbsgd
from lbsgd.errors import EnvironmentNotReady
from lbsgd.launch.horovod.installed import BUILD_FACTS, FRAMEWORKS
from lbsgd.launch.horovod.progress import Progress, first_error
from lbsgd.launch.horovod.sdist import VERSION, apply_edits, edits_digest, edits_for, fetch, unpack, verify
from lbsgd.launch.horovod.toolchain import Toolchain
from lbsgd.record.atomic import write_json

PIP = (sys.executable, "-m", "pip")
MEMORY_PER_JOB = 2 << 30  # bytes; compiling against TensorFlow's headers takes most of it


def default_cache() -> Path:
    """The user's cache folder for Horovod wheels."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "lbsgd" / "horovod"


def default_jobs() -> int:
    """Compilers to run at a time: one per core, as far as the free memory goes."""
    return max(1, min(len(os.sched_getaffinity(0)), psutil.virtual_memory().available // MEMORY_PER_JOB))


def build_facts(toolchain: Toolchain) -> dict[str, object]:
    """All that decides what the wheel is, as JSON: two toolchains with equal facts can share one."""
    cuda = toolchain.cuda
    return {
        "horovod": VERSION,
        "edits": edits_digest(edits_for(toolchain.frameworks.get("tensorflow"))),
        "python": sysconfig.get_config_var("SOABI"),
        "platform": [sysconfig.get_platform(), *platform.libc_ver()],
        "frameworks": toolchain.frameworks,
        "mpi": [toolchain.mpi.name, toolchain.mpi.version, str(toolchain.mpi.prefix or "")],
        "compiler": [toolchain.compiler, os.environ.get("CXXFLAGS", "")],
        "cuda": cuda and [cuda.version, cuda.nccl.version, cuda.architectures],
    }


def entry_name(facts: Mapping) -> str:
    """The cache entry's name: what people look for, and a digest of all facts."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    frameworks = [f"{name}{version}" for name, version in facts["frameworks"].items()]
    mpi = "".join(facts["mpi"][:2]).replace(" ", "").lower()
    device = f"cuda{facts['cuda'][0]}" if facts["cuda"] else "cpu"
    python = f"python{sysconfig.get_python_version()}"
    return "-".join([f"horovod{facts['horovod']}", python, *frameworks, mpi, device, digest])


def build_variables(toolchain: Toolchain, jobs: int, nccl_folder: Path) -> dict[str, str]:
    """The environment variables that tell Horovod's setup.py and CMake what to build.

    nccl_folder: a folder with a libnccl.so, made when the toolchain has CUDA.
    """
    variables = {
        "HOROVOD_WITH_MPI": "1",
        # A fifth of the build, for a second controller that MPI makes needless: lbsgd starts its ranks by MPI.
        "HOROVOD_WITHOUT_GLOO": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "CMAKE_GENERATOR": "Unix Makefiles",
        # CMake 4 refuses the bundled projects, which ask for the policies of older ones.
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
        # GCC 13's standard headers no longer include it by the way, and some sixty files rely on that.
        "CXXFLAGS": f"{os.environ.get('CXXFLAGS', '')} -include cstdint".strip(),
        "MAKEFLAGS": f"-j{jobs}",
    }
    for name, framework in FRAMEWORKS.items():
        word = "WITH" if name in toolchain.frameworks else "WITHOUT"
        variables[f"HOROVOD_{word}_{framework.built_as.upper()}"] = "1"
    if toolchain.cuda:
        variables |= {
            "CUDA_HOME": str(toolchain.cuda.home),
            "HOROVOD_CUDA_HOME": str(toolchain.cuda.home),
            "HOROVOD_BUILD_CUDA_CC_LIST": toolchain.cuda.architectures,
            "HOROVOD_GPU_OPERATIONS": "NCCL",
            "HOROVOD_NCCL_INCLUDE": str(toolchain.cuda.nccl.include),
            "HOROVOD_NCCL_LIB": str(nccl_folder),
            "HOROVOD_NCCL_LINK": "SHARED",
        }
    return variables


def build_wheel(
    toolchain: Toolchain,
    cache: Path,
    *,
    sdist: Path | None,
    index: bool,
    force: bool,
    jobs: int,
    progress: Callable[[], Progress],
    say: Callable[[str], None],
) -> Path:
    """The wheel for `toolchain`, from `cache` unless `force`, else built.

    sdist: Horovod's source where pip cannot download it. index: whether pip may download it.
    Raises EnvironmentNotReady when the source cannot be had or does not compile.
    """
    facts = build_facts(toolchain)
    entry = make_folder(cache / entry_name(facts))
    with locked(entry / "lock", say):
        wheel = next(entry.glob("*.whl"), None)
        if wheel and not force:
            say(f"found in the cache: {wheel}")
            return wheel
        if sdist is not None:
            verify(sdist)
        # Not in the cache: Horovod's CMake reads the path as a regular expression, and an entry has a "+".
        with tempfile.TemporaryDirectory(prefix="lbsgd-horovod-") as scratch:
            source = prepare_source(sdist or fetch(cache, index), Path(scratch), facts)
            # The library's search path will name the folder with NCCL: one of the user, that nobody else can fill.
            variables = build_variables(toolchain, jobs, link_nccl(toolchain, entry))
            log = entry / "build.log"
            with progress() as shown:
                built = compile_wheel(source, Path(scratch) / "wheel", variables, log, shown.line)
            require_libraries(built, toolchain.frameworks, log)
            return place(built, entry)


def make_folder(folder: Path) -> Path:
    """Make a folder of the cache.

    Raises EnvironmentNotReady when that is not allowed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentNotReady(
            f"cannot make the folder {folder}: {error.strerror}; give a writable one with --cache"
        ) from error
    return folder


def locked(path: Path, say: Callable[[str], None]) -> AcquireReturnProxy:
    """Hold the lock `path`; says so when another build must end first."""
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except TimeoutError:
        say(f"waiting for another build that holds {path}")
        return lock.acquire()


def prepare_source(sdist: Path, folder: Path, facts: Mapping) -> Path:
    """Unpack and edit the source, and put the facts where they end up in the installed package."""
    source = unpack(sdist, folder)
    apply_edits(source, edits_for(facts["frameworks"].get("tensorflow")))
    write_json(source / "horovod" / BUILD_FACTS, {"lbsgd": lbsgd.__version__, **facts})
    return source


def link_nccl(toolchain: Toolchain, folder: Path) -> Path:
    """A folder in `folder` with libnccl.so, the name that CMake looks for: pip's NCCL has only libnccl.so.2."""
    libraries = make_folder(folder / "nccl")
    link = libraries / "libnccl.so"
    link.unlink(missing_ok=True)
    if toolchain.cuda:
        link.symlink_to(toolchain.cuda.nccl.library)
    return libraries


def compile_wheel(source: Path, folder: Path, variables: Mapping[str, str], log: Path, line: Callable[[str], None]) -> Path:
    """Let pip build the wheel of `source` into `folder`; the file `log` and `line` get all output.

    Raises EnvironmentNotReady with the first error when it fails.
    """
    # What the user set for a build by hand would contradict the cache entry's name.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOROVOD_")}
    options = ["--verbose", "--no-index", "--no-build-isolation", "--no-deps", "--no-cache-dir", "--wheel-dir", str(folder)]
    command = [*PIP, "wheel", *options, str(source)]
    with (
        log.open("w") as file,
        subprocess.Popen(
            command,
            env={**environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        for text in process.stdout or ():
            file.write(text)
            line(text)
    if process.returncode != 0:
        raise EnvironmentNotReady(f"Horovod did not compile; the log is {log}\n{first_error(log.read_text().splitlines())}")
    return next(folder.glob("*.whl"))


def require_libraries(wheel: Path, frameworks: Iterable[str], log: Path) -> None:
    """Refuse a wheel without the compiled library of a framework: pip calls that a success.

    Raises EnvironmentNotReady.
    """
    names = zipfile.ZipFile(wheel).namelist()
    for name in frameworks:
        if not any(entry.startswith(f"horovod/{FRAMEWORKS[name].library}.") for entry in names):
            raise EnvironmentNotReady(f"Horovod's wheel came out without its library for {name}; the log is {log}")


def place(wheel: Path, entry: Path) -> Path:
    """Put a finished wheel into the cache, where it appears complete or not at all."""
    partial = entry / f"{wheel.name}.partial"
    shutil.copyfile(wheel, partial)
    return partial.replace(entry / wheel.name)


def install(wheel: Path) -> None:
    """Install `wheel` into the environment of this interpreter, over any other Horovod.

    Raises EnvironmentNotReady when pip cannot.
    """
    options = ["--quiet", "--no-index", "--no-deps", "--force-reinstall"]
    finished = subprocess.run([*PIP, "install", *options, str(wheel)], capture_output=True, text=True)
    if finished.returncode != 0:
        raise EnvironmentNotReady(f"pip could not install {wheel}: {finished.stderr.strip().splitlines()[-1]}")
