"""`make image-check`: build the image for CPUs by Podman, and do with it what docs/docker.md does by Docker.

As root on Debian 12, with podman, runc, netavark, aardvark-dns, iptables, catatonit and debootstrap installed.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lbsgd import __version__

from .base import provide_bases
from .documented import ROOT, docker_runs, lines, services
from .engine import call, engine, output, whats_missing
from .host_settings import MOUNTED, build_options

IMAGE = "lbsgd"
STRANGER = 12345
"""A user that the image does not know, as `docker run --user` may name one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="Keep the engine's storage in this folder, for another check.")
    given = parser.parse_args()
    if reason := whats_missing():
        raise SystemExit(f"image-check cannot run: {reason}")
    with tempfile.TemporaryDirectory(prefix="lbsgd-image-", dir="/var/tmp") as scratch:
        storage = (given.folder or Path(scratch, "storage")).absolute()
        with engine(storage, keep=given.folder is not None):
            for check in (build, size, contents, secrets, versions, key_of_an_mpijob, one_container, two_containers):
                with timed(check.__name__.replace("_", " ")), tempfile.TemporaryDirectory(dir=scratch) as folder:
                    check(Path(folder))
    say("all passed")


def build(folder: Path) -> None:
    """The image of the CPU variant. Where torch comes from is for pip's settings on this host to say."""
    provide_bases()
    options = ("--pull=never", "--layers", "--skip-unused-stages=false", "--network=host", "--build-arg=TORCH_INDEX=")
    # A mount leaves an empty folder in the layer. So the stage that needs packages is built by itself, and then not again.
    call("podman", "build", *options, "--target=build", *build_options(folder), ROOT)
    call("podman", "build", *options, f"--tag={IMAGE}", ROOT)
    say(f"image {inspect()['Id'][:12]} of {output('podman', '--version').strip()}")


def size(folder: Path) -> None:
    """Say how large the image is and what is large in it."""
    say(f"{inspect()['Size'] / (1 << 20):,.0f} MiB")
    script = "cd /opt/lbsgd/lib/python3*/site-packages; du -sm * | sort -rn | head -n 5"
    for line in run("sh", "-c", script).splitlines():
        say("{:>5} MiB {}".format(*line.split()))


def contents(folder: Path) -> None:
    """What must be there, and what must not."""
    require("Usage: lbsgd" in output("podman", "run", "--rm", IMAGE), "the default command shows the help")
    require(run("id", "-un") == "lbsgd\n", "the user is lbsgd")
    tools = run("bash", "-c", "type -P cc c++ g++ make cmake nvcc || true")
    require(not tools, f"compilers are there: {tools}")
    patterns = "/source /wheel /root/.cache/* /etc/ssh/ssh_host_* /var/cache/apt/archives/*.deb /var/lib/apt/lists/*_*"
    found = output(
        "podman", "run", "--rm", "--user=0", IMAGE, "bash", "-c", f"shopt -s nullglob; ls -d {patterns} 2>&1 || true"
    )
    left = [line for line in found.splitlines() if "No such file" not in line and line != "."]
    require(not left, f"left over: {left}")


def secrets(folder: Path) -> None:
    """Nothing of this host's settings is in the image's layers or in its history."""
    options = build_options(folder)
    marks = {part for line in (folder / "pip.conf").read_text().splitlines() for part in line.split() if MOUNTED in part}
    told = output("podman", "history", "--no-trunc", "--format=json", IMAGE) + json.dumps(inspect())
    require(not [mark for mark in (*marks, *options) if mark in told], "the history tells where packages came from")
    script = f"cat /etc/pip.conf ~/.config/pip/pip.conf; find {MOUNTED} -mindepth 1; env | grep -i -e ^pip -e proxy"
    found = output(
        "podman", "run", "--rm", "--user=0", "--http-proxy=false", IMAGE, "sh", "-c", f"({script}) 2>/dev/null || true"
    )
    require(not found, f"the image has settings of this host: {found}")


def versions(folder: Path) -> None:
    """Every package that constraints.txt names has the version it says."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pins = {canonical(name): version for name, version in pins.items()}
    installed = {
        canonical(one["name"]): one["version"].partition("+")[0] for one in json.loads(run("pip", "list", "--format=json"))
    }
    others = {name: version for name, version in installed.items() if name in pins and version != pins[name]}
    require(not others, f"not as constraints.txt says: {others}")
    say(f"not in constraints.txt: {', '.join(sorted(installed.keys() - pins.keys()))}")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def key_of_an_mpijob(folder: Path) -> None:
    """Server and client take the key as Kubernetes mounts it: root's, and readable by all."""
    call("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", folder / "id_rsa")
    (folder / "id_rsa").chmod(0o644)
    folder.chmod(0o755)
    script = "/usr/sbin/sshd -De & for try in 1 2 3 4 5; do sleep 1; ssh localhost lbsgd --version && exit; done; exit 1"
    answer = output("podman", "run", "--rm", "--network=none", f"--volume={folder}:/home/lbsgd/.ssh", IMAGE, "sh", "-c", script)
    require(__version__ in answer, answer)


def one_container(folder: Path) -> None:
    """What docs/docker.md runs on CPUs works, without a network and as a user that the image does not know."""
    shutil.chown(folder, STRANGER, STRANGER)
    folder.chmod(0o755)
    for line, (image, _) in zip(lines("docker run "), docker_runs(), strict=True):
        if image == IMAGE:
            say(f"$ {line}")
            podman = line.replace("docker run", "podman run --network none", 1)
            call("bash", "-euc", f"id() {{ echo {STRANGER}; }}\n{podman}", cwd=folder)
    records = [json.loads(path.read_text()) for path in folder.glob("runs/*/run.json")]
    require({record["framework"] for record in records} == {"torch", "tensorflow"}, "both frameworks were tried")
    for record in records:
        world, error = record["world"], record["final"]["top1_error"]
        require(record["status"] == "done" and world["size"] == 2 and error <= 0.03, f"{record['id']}: {world}, error {error}")
        say(f"{record['framework']}: {world['size']} ranks in one container, top-1 error {error:.2%}")


def two_containers(folder: Path) -> None:
    """What docs/docker.md runs with compose.yaml works: a launcher starts ranks in two workers through ssh."""
    compose = (Path(sys.executable).with_name("podman-compose"), "--profile=launcher", "--file", ROOT / "compose.yaml")
    try:
        for line in lines("docker compose run "):
            say(f"$ {line}")
            call(*compose, *line.split()[2:], cwd=ROOT)
        places = output("podman", "volume", "inspect", "lbsgd_workspace", "--format={{.Mountpoint}}").split()
        records = [json.loads(path.read_text()) for path in Path(places[0]).glob("runs/*/run.json")]
        workers = [name for name in services() if name.startswith("worker")]
        require(len(records) == 3 and all(record["status"] == "done" for record in records), "all three runs ended well")
        require(all(record["world"]["hosts"] == workers for record in records), "each ran on both workers")
        for record in records:
            hosts, error = " and ".join(record["world"]["hosts"]), record["final"]["top1_error"]
            say(f"{record['framework']} on {hosts}: top-1 error {error:.2%}")
        say("\n" + output("podman", "ps", "--format", "{{.ID}} {{.Names}} {{.Networks}} {{.Status}}"))
    finally:
        call(*compose, "down", "--volumes", cwd=ROOT)


def run(*command: str) -> str:
    """What a command says in a container of its own."""
    return output("podman", "run", "--rm", "--network=none", IMAGE, *command)


def inspect() -> dict:
    [image] = json.loads(output("podman", "image", "inspect", IMAGE))
    return image


@contextmanager
def timed(what: str) -> Iterator[None]:
    started = time.monotonic()
    say(f"--- {what}")
    yield
    say(f"--- {what}: passed in {time.monotonic() - started:.0f} s")


def require(holds: bool, what: str) -> None:
    if not holds:
        raise SystemExit(f"image-check failed: {what}")


def say(line: str) -> None:
    print(f"image-check: {line}", flush=True)


if __name__ == "__main__":
    main()
