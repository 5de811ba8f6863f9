"""What a build takes from this host: where packages come from, and nothing else."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

MOUNTED = "/mnt"
"""The folder under which a build sees those files of the host that the settings name."""


def build_options(folder: Path) -> list[str]:
    """What `podman build` is given so that pip finds its packages as it does here. A file is written to `folder`.

    Mounts are seen by the steps of a build and are in none of its layers. Proxies podman hands on by itself.
    """
    settings = pip_settings(_output(sys.executable, "-m", "pip", "config", "list"))
    file = folder / "pip.conf"
    file.write_text("[global]\n" + "".join(f"{name} = {mounted(value)}\n" for name, value in settings.items()))
    paths = {Path(path) for value in settings.values() for path in local_paths(value)}
    mounts = {file: "/etc/pip.conf"} | {path: f"{MOUNTED}{path}" for path in with_their_files(paths)}
    return [f"--volume={path}:{place}:ro" for path, place in mounts.items()]


def pip_settings(listing: str) -> dict[str, str]:
    """What `pip config list` shows, by name. The environment goes before files, whose names are of no more use."""
    lines = [re.fullmatch(r"(global|:env:)\.([\w-]+)=(.*)", line) for line in listing.splitlines()]
    found = sorted((match[1] == ":env:", match[2], ast.literal_eval(match[3])) for match in lines if match)
    return {name: value for _, name, value in found if name != "config-file"}


def local_paths(value: str) -> list[str]:
    """The files and folders of this host in a setting's value."""
    words = [word.removeprefix("file://") for word in value.split()]
    return [word for word in words if word.startswith("/") and Path(word).exists()]


def mounted(value: str) -> str:
    """The value as it holds in a build."""
    for path in local_paths(value):
        value = re.sub(rf"(?<!\S)(file://)?{re.escape(path)}(?!\S)", rf"\1{MOUNTED}{path}", value)
    return value


def with_their_files(paths: set[Path]) -> set[Path]:
    """The folder above an index "simple" instead of it: its pages point to files beside it."""
    return {path.parent if path.name == "simple" else path for path in paths}


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"}).stdout
