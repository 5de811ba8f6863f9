"""Rooms: which there are, and that their imports point one way."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (
    "errors", "models", "policy", "record", "ranks", "data", "launch", "backends", "measuring", "profiling", "training",
    "experiments", "projection", "report", "doctor", "commands", "cli",
)  # fmt: skip
"""From the ground up: a room imports from those before it."""


def modules() -> list[Path]:
    return sorted(path for top in ("lbsgd", "backends", "launch") for path in (ROOT / top).rglob("*.py"))


def room_of(module: str) -> str | None:
    """ "policy" for lbsgd.policy.plan; None for lbsgd itself and for what is not lbsgd's."""
    parts = module.split(".")
    return parts[1] if parts[0] == "lbsgd" and len(parts) > 1 else None


def name_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name if name.startswith("lbsgd") else f"lbsgd.{name}"


def imported(path: Path) -> Iterator[str]:
    """Wherever in the file it is."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports say the whole name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_is_known():
    folders = {path.name for path in (ROOT / "lbsgd").iterdir() if path.is_dir() and path.name != "__pycache__"}
    files = {path.stem for path in (ROOT / "lbsgd").glob("*.py")} - {"__init__"}
    assert folders | files | {"backends", "launch"} == set(ROOMS)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    room = room_of(name_of(path))
    if room is None or name_of(path) == "lbsgd.__init__":
        return
    names = {found for name in imported(path) if (found := room_of(name)) in ROOMS}
    above = {name for name in names if ROOMS.index(name) > ROOMS.index(room)}
    assert not above, f"{room} imports from {above}"


def test_the_readme_shows_every_room():
    shown = re.findall(r"^(?:lbsgd/)?(\w+)/ +\S", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert sorted(shown) == sorted({*ROOMS, "benchmarks"} - {"errors", "cli"})
