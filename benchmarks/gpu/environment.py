"""A virtual environment with the kit in it, upon an interpreter that has torch.

Standard library only: it runs before the kit is there. Nothing is changed in the interpreter's own packages; what the kit
brings goes before them.
"""

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Environment:
    """A virtual environment. `variables`: what a process in it is started with."""

    folder: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def lbsgd(self) -> str:
        return str(self.folder / "bin" / "lbsgd")

    @property
    def variables(self) -> dict[str, str]:
        as_root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        path = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])
        return {**os.environ, **as_root, "PATH": path, "OPAL_PREFIX": str(self.folder), "PYTHONUNBUFFERED": "1"}


def make_environment(folder: Path, kit: Path) -> Environment:
    """A new environment in `folder` upon this interpreter, with every wheel of the kit and nothing from an index.

    Raises RuntimeError with pip's words when a requirement of lbsgd is met neither by the kit nor by this interpreter.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    environment = Environment(folder)
    below = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    (site_packages(environment) / "below.pth").write_text("".join(f"{entry}\n" for entry in below))
    wheels = sorted(map(str, kit.glob("*.whl")))
    run_pip(environment, "install", "--no-deps", "--ignore-installed", *wheels)
    # Again with dependencies: nothing is left to install, unless the machine lacks what the kit expects of it.
    run_pip(environment, "install", "--find-links", str(kit), "lbsgd[torch,mpi,turbojpeg,demo]")
    return environment


def site_packages(environment: Environment) -> Path:
    """Where the packages of an environment lie."""
    return environment.folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def run_pip(environment: Environment, verb: str, *arguments: str) -> None:
    """Run pip offline; it is found in the packages of the interpreter below."""
    command = [environment.python, "-m", "pip", verb, "--quiet", "--no-index", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, env=environment.variables, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"pip {verb}: {done.stderr.strip()}")
