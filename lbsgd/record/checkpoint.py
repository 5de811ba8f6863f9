"""Checkpoints that either framework writes and reads: safetensors, JSON and a manifest of hashes. Nothing is unpickled.

A checkpoint is a folder `iteration-<n>`, n steps done: model.safetensors (a torchvision state dict), velocity.safetensors
(momentum's u by parameter name), state.json, and manifest.json with the SHA-256 of the others. It is written beside its
place and renamed, so a folder under its own name is complete.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lbsgd.errors import CheckpointError, EnvironmentNotReady
from lbsgd.models.state import Arrays, State
from lbsgd.record.atomic import write_atomically, write_json

SCHEMA = "lbsgd.checkpoint/1"
PREFIX = "iteration-"
FILES = ("model.safetensors", "velocity.safetensors", "state.json")


def save_checkpoint(root: Path, iteration: int, state: State, about: dict[str, Any], *, keep: int) -> Path:
    """Write the checkpoint of `iteration` under `root`, then delete all but the newest `keep`.

    about: what the run needs to know beside the arrays (recipe, classes, ...), as JSON.
    Raises EnvironmentNotReady when it cannot be written; earlier checkpoints stay.
    """
    final = root / f"{PREFIX}{iteration:08d}"
    partial = root / f".{final.name}.partial"
    content = {"schema": SCHEMA, "iteration": iteration, "loss_scale": state.loss_scale, **about}
    data = {
        "model.safetensors": save(_rows_first(state.model)),
        "velocity.safetensors": save(_rows_first(state.velocity)),
        "state.json": json.dumps(content, indent=2).encode(),
    }
    try:
        _remove_hidden(root)
        partial.mkdir(parents=True)
        for name, blob in data.items():
            write_atomically(partial / name, blob)
        write_json(partial / "manifest.json", {name: hashlib.sha256(blob).hexdigest() for name, blob in data.items()})
        _set_aside(final)
        partial.replace(final)
    except OSError as error:
        _remove_hidden(root)
        needed = sum(map(len, data.values())) >> 20
        raise EnvironmentNotReady(
            f"cannot write checkpoint {final} ({needed} MiB): {error.strerror}; earlier checkpoints are untouched"
        ) from error
    for old in list_checkpoints(root)[:-keep]:
        _set_aside(old)
    _remove_hidden(root)
    return final


def _rows_first(arrays: Arrays) -> Arrays:
    """The same arrays in C order: safetensors writes a transposed one as it lies in memory, under its shape."""
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}


def _set_aside(checkpoint: Path) -> None:
    """Take a checkpoint's name away before its files: under that name a folder is complete."""
    if checkpoint.exists():
        checkpoint.rename(checkpoint.with_name(f".{checkpoint.name}.old"))


def _remove_hidden(root: Path) -> None:
    """Delete what was set aside, and what a write cut short has left."""
    for folder in root.glob(f".{PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)


def list_checkpoints(root: Path) -> list[Path]:
    """The checkpoints under `root`, oldest first. A folder with more in its name, such as a copy, is not one."""
    found = [path for path in root.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal() and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(PREFIX)))


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that `path` names: itself, or the newest of the run at `path`.

    Raises CheckpointError when there is none.
    """
    if (path / "manifest.json").exists():
        return path
    found = list_checkpoints(path / "checkpoints")
    if not found:
        raise CheckpointError(f"{path} is neither a checkpoint nor a run that has one")
    return found[-1]


def load_checkpoint(path: Path) -> tuple[State, dict[str, Any]]:
    """The state in checkpoint `path`, and what was saved about its run (`iteration`, the recipe, ...).

    Raises CheckpointError when a file is missing or is not what was written.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        data = {name: (path / name).read_bytes() for name in FILES}
        for name, blob in data.items():
            if hashlib.sha256(blob).hexdigest() != manifest[name]:
                raise CheckpointError(f"{path / name} is damaged: its hash is not the one in manifest.json{_others(path)}")
        about = json.loads(data["state.json"])
        if about["schema"] != SCHEMA:
            raise CheckpointError(f"{path} has schema {about['schema']}, this version reads {SCHEMA}")
        arrays = load(data["model.safetensors"]), load(data["velocity.safetensors"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error}{_others(path)}") from error
    return State(*arrays, about["loss_scale"]), about


def _others(path: Path) -> str:
    others = [other.name for other in list_checkpoints(path.parent) if other != path]
    return f"; others here: {', '.join(others[-3:])}" if others else "; there is no other here"
