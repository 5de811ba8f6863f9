"""Runs check.py without a GPU, in an environment that has only what machine.toml says the GPU machine has, and the kit.

    make gpu-rehearsal

Takes the Python that the machine has where there is one, else this one, and torch's CUDA build: Horovod is compiled with NCCL
where there is a CUDA toolkit.
"""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
from kit import MACHINE, collect, read_machine

HERE = Path(__file__).parent


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--minutes", default=18.0, show_default=True, help="Most that the check may take, on a machine with few cores.")
def main(folder: Path, minutes: float) -> None:
    """Rehearse in FOLDER, which keeps the environment for the next time; the results are in FOLDER/results."""
    machine = read_machine(None)
    python = find_python(machine.python_version)
    tag = subprocess.run([python, "-c", TAG], capture_output=True, text=True, check=True).stdout.strip()
    base = folder / f"base-{tag}"
    if not (base / "complete").exists():
        make_base(python, base)
    kit = folder / "kit"
    shutil.rmtree(kit, ignore_errors=True)
    kit.mkdir()
    collect(kit, read_machine(tag))
    arguments = [
        "--kit",
        str(kit),
        "--out",
        str(folder / "results"),
        "--device",
        "cpu",
        "--rehearse",
        "--minutes",
        str(minutes),
    ]
    sys.exit(subprocess.run([base / "bin" / "python", HERE / "check.py", *arguments]).returncode)


TAG = "import sys; print(f'cp{sys.version_info.major}{sys.version_info.minor}')"


def find_python(version: str) -> str:
    """An interpreter of this version that runs (a version manager's stand-in may not), else the one that runs this."""
    for candidate in (shutil.which(f"python{version}"), *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))):
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
            return candidate
    return sys.executable


def make_base(python: str, folder: Path) -> None:
    """An environment with the packages of machine.toml, as an index has them."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", folder], check=True)
    packages = tomllib.loads(MACHINE.read_text())["packages"]
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *packages], check=True)
    (folder / "complete").touch()


if __name__ == "__main__":
    main()
