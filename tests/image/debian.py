"""A Debian system in a folder, made by debootstrap: what stands in for the base image."""

import subprocess
from pathlib import Path

MIRROR = "http://deb.debian.org"
SOURCES = f"""\
deb {MIRROR}/debian bookworm main
deb {MIRROR}/debian bookworm-updates main
deb {MIRROR}/debian-security bookworm-security main
"""


def make_debian(image: str, root: Path) -> None:
    """Debian 12's essential packages and apt in the folder `root`, for an image "debian:12.x-slim"."""
    if not image.startswith("debian:12."):
        raise ValueError(f"{image}: only Debian 12 can be made here; the CUDA variant takes a container engine")
    subprocess.run(
        ["debootstrap", "--variant=minbase", "bookworm", root, f"{MIRROR}/debian"], check=True, stdout=subprocess.DEVNULL
    )
    (root / "etc/apt/sources.list").write_text(SOURCES)
    # As in Debian's own image: packages do not start their services, and downloads are not kept.
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    (root / "etc/apt/apt.conf.d/docker-clean").write_text(
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };\n'
    )
    subprocess.run(["chroot", root, "apt-get", "clean"], check=True)
