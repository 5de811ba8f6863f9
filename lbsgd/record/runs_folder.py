"""A folder of runs and studies: what is recorded there, in which order it was started, and what a name means."""

import json
from datetime import UTC, datetime
from pathlib import Path

from lbsgd.errors import UsageError, did_you_mean

RUN_FILE = "run.json"


def new_folder(root: Path, name: str) -> Path:
    """A path under `root` for a run that starts now: <utc>-<name>, numbered when it is taken. Nothing is made."""
    stem = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}"
    candidate, number = root / stem, 2
    while candidate.exists():
        candidate, number = root / f"{stem}-{number}", number + 1
    return candidate


def recorded(root: Path, *files: str) -> list[Path]:
    """The folders in `root` that hold one of the record files, in the order in which they were last started.

    A record that does not tell comes first.
    """
    found = [path for name in files for path in root.glob(f"*/{name}")]
    return list(dict.fromkeys(path.parent for path in sorted(found, key=lambda path: (start_time(path), path))))


def start_time(record: Path) -> str:
    """When a run's last attempt, or a study, was started: ISO 8601 in UTC; "" where the record does not tell."""
    try:
        content = json.loads(record.read_text())
        return str(content.get("started") or content["attempts"][-1]["started"])
    except (OSError, ValueError, AttributeError, LookupError, TypeError):
        return ""


def find_recorded(name: str, root: Path, *files: str, what: str = "run") -> Path:
    """The folder that `name` means: "latest", a folder in `root`, or a path.

    Raises UsageError when it holds none of the record files.
    """
    known = recorded(root, *files)
    if name == "latest" and known:
        return known[-1]
    for folder in (root / name, Path(name)):
        if any((folder / file).exists() for file in files):
            return folder
    hint = did_you_mean(name, [folder.name for folder in known]) or "`lbsgd runs list` shows what there is"
    raise UsageError(f"no {what} {name!r} in {root}; {hint}")
