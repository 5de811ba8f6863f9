"""Whether this environment has Horovod for a framework, read from installed files alone.

Nothing here imports a framework or Horovod, so every command can ask before it starts anything. Whether the
installation also works is for lbsgd.launch.horovod.verify to say.
"""

import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from lbsgd.errors import EnvironmentNotReady

BUILD_FACTS = "lbsgd_build.json"  # put into the horovod package by `lbsgd horovod build`
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Framework:
    """How a framework shows in an environment. `built_as`: its name in the metadata.json of Horovod."""

    name: str
    distributions: tuple[str, ...]
    library: str
    built_as: str


FRAMEWORKS = {
    "torch": Framework("torch", ("torch",), "torch/mpi_lib_v2", "pytorch"),
    "tensorflow": Framework(
        "tensorflow",
        ("tensorflow", "tensorflow-cpu", "tensorflow-rocm", "tf-nightly", "tf-nightly-cpu"),
        "tensorflow/mpi_lib",
        "tensorflow",
    ),
}


def installed(framework: str) -> metadata.Distribution | None:
    """The distribution that provides `framework`, None when there is none."""
    for name in FRAMEWORKS[framework].distributions:
        try:
            return metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def installed_frameworks() -> dict[str, str]:
    """The installed frameworks and their versions."""
    found = {name: installed(name) for name in FRAMEWORKS}
    return {name: distribution.version for name, distribution in found.items() if distribution}


def horovod_distribution() -> metadata.Distribution | None:
    """Horovod's distribution, None when it is not installed."""
    try:
        return metadata.distribution("horovod")
    except metadata.PackageNotFoundError:
        return None


def has_library(package: Path, framework: str) -> bool:
    """Whether the horovod package in folder `package` holds the library compiled for `framework`."""
    return any(package.glob(f"{FRAMEWORKS[framework].library}.*so"))


@dataclass(frozen=True)
class InstalledHorovod:
    """What its files say about an installed Horovod. `built_for`: the frameworks it was compiled against."""

    version: str
    folder: Path
    built_for: dict[str, str]
    build: dict | None

    @property
    def built_by(self) -> str:
        return f"lbsgd {self.build['lbsgd']}" if self.build else UNKNOWN

    def mismatches(self, frameworks: dict[str, str]) -> list[str]:
        """A sentence for each of `frameworks` (name to version) that this was not compiled against."""
        found = []
        for name, version in frameworks.items():
            if name not in self.built_for:
                found.append(f"Horovod was built without {name}")
            elif public(self.built_for[name]) not in (public(version), UNKNOWN):
                found.append(f"Horovod was built for {name} {self.built_for[name]}, but {name} is {version}")
        return found


def public(version: str) -> str:
    """A version without its local part: "2.13.0+cu130" and "2.13.0" are one release under two names."""
    return version.partition("+")[0]


def inspect_horovod() -> InstalledHorovod | None:
    """The installed Horovod, None when there is none."""
    distribution = horovod_distribution()
    if distribution is None:
        return None
    folder = Path(str(distribution.locate_file("horovod")))
    versions = read_json(folder / "metadata.json") or {}
    built_for = {
        name: versions.get(framework.built_as, UNKNOWN) for name, framework in FRAMEWORKS.items() if has_library(folder, name)
    }
    return InstalledHorovod(distribution.version, folder, built_for, read_json(folder / BUILD_FACTS))


def read_json(path: Path) -> dict | None:
    """The content of a JSON file, None when there is no such file."""
    return json.loads(path.read_text()) if path.exists() else None


def require_horovod(framework: str) -> None:
    """Refuse to go on unless `framework` ("torch" or "tensorflow") and Horovod built for it are installed.

    Raises EnvironmentNotReady with what to do; takes a few milliseconds.
    """
    if installed(framework) is None:
        raise EnvironmentNotReady(f"{framework} is not installed; pip install 'lbsgd[{framework}]'")
    horovod = horovod_distribution()
    if horovod is None:
        raise EnvironmentNotReady("Horovod is not installed; run `lbsgd horovod build`")
    if not has_library(Path(str(horovod.locate_file("horovod"))), framework):
        raise EnvironmentNotReady(f"Horovod {horovod.version} was built without {framework}; run `lbsgd horovod build`")
