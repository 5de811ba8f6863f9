"""`make image-check`: build the image for CPUs with no container engine, from nothing, and do with it what docs/docker.md does.

What the Dockerfile says is carried out in folders made by debootstrap; what `docker run` and `docker compose` would do is done
with chroot and namespaces. As root, on Debian, with debootstrap, openssh-server and iproute2 installed.
"""

import argparse
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from lbsgd import __version__

from ..cluster.hosts import cluster, whats_missing
from .build import Build
from .debian import make_debian
from .documented import ROOT, docker_runs, launches, services
from .image import Image

KEYS = "/home/lbsgd/.ssh"
SERVER = ("/usr/sbin/sshd", "-De")
"""What the MPI operator starts in a worker that names no command."""

ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "alone")
"""What a command begins with that is to have no network."""

STRANGER = "12345:12345"
"""A user that the image does not know, as `docker run --user` may name one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="Build here and keep it; it must be empty or not there.")
    parser.add_argument("--cache", type=Path, help="Keep downloads and Horovod's wheel here between checks.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lbsgd-image-", dir="/var/tmp") as scratch:
        folder, cache = given.folder or Path(scratch, "image"), given.cache or Path(scratch, "cache")
        for path in (folder, cache):
            path.mkdir(parents=True, exist_ok=True)
        with timed("build"):
            image = build(folder, cache)
        for check in (sizes, contents, key_of_an_mpijob, one_container, two_containers):
            with timed(check.__name__.replace("_", " ")), tempfile.TemporaryDirectory(dir=scratch) as shared:
                check(image, Path(shared))
    say("all passed")


def build(folder: Path, cache: Path) -> Image:
    """The image of the CPU variant. Where torch comes from is for pip's settings on this host to say."""
    arguments = {"VARIANT": "cpu", "TORCH_INDEX": ""}
    return Build(ROOT, arguments, folder, partial(copy_of_debian, {}), cache, say).last()


def copy_of_debian(made: dict[str, Path], image: str, root: Path) -> None:
    """Make a base image the first time, copy it from then on."""
    if image not in made:
        made[image] = root.with_name("debian")
        make_debian(image, made[image])
    subprocess.run(["cp", "--archive", "--reflink=auto", made[image], root], check=True)


def sizes(image: Image, shared: Path) -> None:
    """Say how large the image is and what is large in it."""
    script = "du -xsm /; cd /opt/lbsgd/lib/python3*/site-packages; du -sm * | sort -rn | head"
    for line in output(image.command("sh", "-c", script, user="0:0", drop=False)).splitlines():
        size, name = line.split()
        say(f"{size:>5} MiB {name}")


def contents(image: Image, shared: Path) -> None:
    """What must be there, and what must not."""
    require("Usage: lbsgd" in output(image.command()), "the default command shows the help")
    require(output(image.command("id", "-un")) == "lbsgd\n", "the user is lbsgd")
    tools = output(image.command("bash", "-c", "type -P cc c++ g++ make cmake nvcc || true"))
    require(not tools, f"compilers are there: {tools}")
    leftovers = (
        "source",
        "wheel",
        "root/.cache/*",
        "etc/ssh/ssh_host_*",
        "var/cache/apt/archives/*.deb",
        "var/lib/apt/lists/*_*",
    )
    found = [path for pattern in leftovers for path in image.root.glob(pattern)]
    require(not found, f"left over: {found}")
    check_versions(image)


def check_versions(image: Image) -> None:
    """Every package that constraints.txt names has the version it says."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pins = {canonical(name): version for name, version in pins.items()}
    installed = json.loads(output(image.command("pip", "list", "--format=json")))
    versions = {canonical(package["name"]): package["version"].partition("+")[0] for package in installed}
    others = {name: version for name, version in versions.items() if name in pins and version != pins[name]}
    require(not others, f"not as constraints.txt says: {others}")
    say(f"not in constraints.txt: {', '.join(sorted(versions.keys() - pins.keys()))}")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def key_of_an_mpijob(image: Image, shared: Path) -> None:
    """Server and client take the key as Kubernetes mounts it: root's, and readable by all."""
    call(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(shared / "id_rsa")])
    (shared / "id_rsa").chmod(0o644)
    shared.chmod(0o755)
    script = f"{' '.join(SERVER)} & for try in 1 2 3 4 5; do sleep 1; ssh localhost lbsgd --version && exit; done; exit 1"
    answer = output([*ALONE, *image.command("sh", "-c", script, mounts={shared: KEYS})])
    require(__version__ in answer, answer)


def one_container(image: Image, shared: Path) -> None:
    """What docs/docker.md runs on CPUs works, without a network and as a user that the image does not know."""
    shutil.chown(shared, *map(int, STRANGER.split(":")))
    for name, command in docker_runs():
        if name == "lbsgd":
            say(f"$ {' '.join(command)}")
            call([*ALONE, *image.command(*command, user=STRANGER, mounts={shared: "/workspace"})])
    records = [json.loads(path.read_text()) for path in shared.glob("runs/*/run.json")]
    require({record["framework"] for record in records} == {"torch", "tensorflow"}, "both frameworks were tried")
    for record in records:
        world, error, efficiency = record["world"], record["final"]["top1_error"], record["scaling"]["efficiency"]
        require(record["status"] == "done" and world["size"] == 2 and error <= 0.03, f"{record['id']}: {world}, error {error}")
        say(f"{record['framework']}: {world['size']} ranks, top-1 error {error:.2%}, scaling efficiency {efficiency:.1%}")


def two_containers(image: Image, shared: Path) -> None:
    """What docs/docker.md runs with compose.yaml works: a launcher starts ranks in two workers through ssh."""
    if reason := whats_missing():
        say(f"skipped: {reason}")
        return
    folders = {name: shared / name for name in ("keys", "workspace", "network")}
    volumes = {folders["keys"]: KEYS, folders["workspace"]: "/workspace"}
    for folder, place in volumes.items():  # a new volume begins as what the image has there
        shutil.copytree(image.root / place.lstrip("/"), folder)
        shutil.chown(folder, *map(int, image.user.split(":")))
    folders["network"].mkdir()
    call(image.command(*services()["keys"]["command"], mounts=volumes))
    names = ("launcher", "worker1", "worker2")
    with ExitStack() as stack:
        hosts = dict(zip(names, stack.enter_context(cluster(len(names), folders["network"])).hosts, strict=True))
        known = shared / "hosts"
        known.write_text("127.0.0.1 localhost\n" + "".join(f"{host.address} {name}\n" for name, host in hosts.items()))

        def inside(name: str, *command: str) -> list[str]:
            return hosts[name].command(*image.command(*command, hostname=name, mounts=volumes | {known: "/etc/hosts"}))

        for name in names[1:]:
            stack.enter_context(running(inside(name, *services()[name]["command"])))
        for name in names[1:]:
            wait_for(inside("launcher", "ssh", name, "true"))
            require(
                output(inside("launcher", "ssh", name, "hostname; lbsgd --version")).split()[::3] == [name, __version__], name
            )
        for command in launches():
            say(f"$ {' '.join(command)}")
            call(inside("launcher", *command))
    records = [json.loads(path.read_text()) for path in folders["workspace"].glob("runs/*/run.json")]
    require(len(records) >= 3 and all(record["world"]["hosts"] == list(names[1:]) for record in records), "on both workers")


@contextmanager
def running(command: list[str]) -> Iterator[None]:
    """A command that runs until the end of the block."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def wait_for(command: list[str], seconds: float = 20) -> None:
    """Let a server start: return when `command` has succeeded, or after some time."""
    deadline = time.monotonic() + seconds
    while subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode and time.monotonic() < deadline:
        time.sleep(0.5)


@contextmanager
def timed(what: str) -> Iterator[None]:
    started = time.monotonic()
    say(f"--- {what}")
    yield
    say(f"--- {what}: passed in {time.monotonic() - started:.0f} s")


def call(command: list[str], seconds: float = 600) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=seconds)


def output(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout


def require(holds: bool, what: str) -> None:
    if not holds:
        raise SystemExit(f"image-check failed: {what}")


def say(line: str) -> None:
    print(f"image-check: {line}", flush=True)


if __name__ == "__main__":
    main()
