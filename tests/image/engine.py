"""Podman with storage and settings of its own, so that a check leaves nothing behind and meets nothing that was there."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("podman", "runc", "iptables", "catatonit", "debootstrap")

STORAGE = """\
[storage]
driver = "overlay"
graphroot = "FOLDER/graph"
runroot = "FOLDER/run"
"""
REGISTRIES = """\
unqualified-search-registries = ["docker.io"]
"""
# Neither systemd nor a journal is needed, nor are limits that only an engine outside of all containers may set.
CONTAINERS = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:4096", "nproc=1024:1024"]
"""


def whats_missing() -> str | None:
    """Why there can be no engine here, or None."""
    if os.geteuid() != 0:
        return "it needs root"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    packages = "podman runc netavark aardvark-dns iptables catatonit debootstrap"
    return f"{', '.join(missing)} not installed: apt-get install {packages}" if missing else None


@contextmanager
def engine(folder: Path, *, keep: bool) -> Iterator[None]:
    """Have `podman`, started from here on, keep everything in `folder`; unless `keep`, all of it is removed at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"storage": STORAGE, "registries": REGISTRIES, "containers": CONTAINERS}.items():
        file = folder / f"{name}.conf"
        file.write_text(text.replace("FOLDER", str(folder)))
        os.environ["CONTAINERS_CONF" if name == "containers" else f"CONTAINERS_{name.upper()}_CONF"] = str(file)
    try:
        yield
    finally:
        call("podman", "rm", "--all", "--force", "--time=0")
        if not keep:
            call("podman", "system", "reset", "--force")


def call(*command: object, cwd: Path | None = None, seconds: float = 1800) -> None:
    """Run a command; its output is shown."""
    subprocess.run(list(map(str, command)), check=True, cwd=cwd, stdin=subprocess.DEVNULL, timeout=seconds)


def output(*command: object, cwd: Path | None = None, seconds: float = 600) -> str:
    """What a command writes to standard output."""
    done = subprocess.run(
        list(map(str, command)),
        check=True,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=seconds,
    )
    return done.stdout
