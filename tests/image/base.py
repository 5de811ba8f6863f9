"""The base images that the Dockerfile names: from a registry, or made by debootstrap where none is reached."""

import subprocess
import tempfile
from pathlib import Path

from .dockerfile import base_images
from .engine import call

MIRROR = "http://deb.debian.org"
SOURCES = f"""\
deb {MIRROR}/debian bookworm main
deb {MIRROR}/debian bookworm-updates main
deb {MIRROR}/debian-security bookworm-security main
"""


def provide_bases() -> None:
    """Have the images that the Dockerfile begins with: Debian from a registry, or made where none is reached.

    The CUDA variant is not built, but the Buildah of Debian 12 wants the images of all stages: Debian gets their names too.
    """
    debian, *others = base_images()
    if subprocess.run(["podman", "pull", "--quiet", debian], capture_output=True).returncode:
        make_debian(debian)
    for name in others:
        call("podman", "tag", debian, f"docker.io/{name}")


def make_debian(name: str) -> None:
    """Import Debian 12's essential packages and apt as the image `name`, which is "debian:12.x-slim"."""
    if not name.startswith("debian:12."):
        raise ValueError(f"{name}: only Debian 12 can be made here")
    with tempfile.TemporaryDirectory(prefix="lbsgd-debian-", dir="/var/tmp") as scratch:
        root = Path(scratch, "root")
        subprocess.run(
            ["debootstrap", "--variant=minbase", "bookworm", root, f"{MIRROR}/debian"], check=True, stdout=subprocess.DEVNULL
        )
        (root / "etc/apt/sources.list").write_text(SOURCES)
        # As in Debian's own image: packages do not start their services, and downloads are not kept.
        (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
        (root / "usr/sbin/policy-rc.d").chmod(0o755)
        clean = 'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };\n'
        (root / "etc/apt/apt.conf.d/docker-clean").write_text(clean)
        subprocess.run(["chroot", root, "apt-get", "clean"], check=True)
        archive = Path(scratch, "root.tar")
        call("tar", "--create", "--directory", root, "--file", archive, ".")
        call("podman", "import", "--quiet", archive, f"docker.io/library/{name}")
