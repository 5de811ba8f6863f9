"""The folder that ranks start in and the runs folder: whether it can be written, is one for all hosts, and has room."""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lbsgd.doctor.finding import Finding, ok, problem, skipped, told, warning
from lbsgd.doctor.request import Question, Request
from lbsgd.models import describe, library_model
from lbsgd.record.atomic import write_atomically

MIB = 1 << 20
PROBE_BYTES = MIB
BYTES_PER_PARAMETER = 8
"""float32 weights and velocity."""
IMAGENET_CLASSES = 1000


@contextmanager
def marked(runs: Path, mark: str) -> Iterator[None]:
    """A file called `mark` in the runs folder while hosts are asked; none where it cannot be written."""
    file = existing(runs) / mark
    try:
        file.touch()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists: what is not there yet will be made in that."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def look(question: Question) -> dict[str, Any]:
    """What is there, and how a write as of a checkpoint's file goes."""
    folder = existing(question.runs)
    return {
        "folder": str(question.folder) if question.folder.is_dir() else None,
        "sees_mark": (folder / question.mark).exists(),
        "free": shutil.disk_usage(folder).free,
        **_probe(folder),
    }


def _probe(folder: Path) -> dict[str, Any]:
    """Milliseconds of writing a file, syncing and renaming it, or why it failed."""
    file = folder / f"lbsgd-doctor-{socket.gethostname()}-{os.getpid()}"
    begin = time.perf_counter()
    try:
        write_atomically(file, bytes(PROBE_BYTES))
        return {"write_ms": 1e3 * (time.perf_counter() - begin), "error": None}
    except OSError as error:
        return {"write_ms": None, "error": f"{folder}: {error.strerror}"}
    finally:
        for left in folder.glob(f"*{file.name}*"):
            left.unlink()


def judge(facts: dict[str, dict], request: Request) -> Iterator[Finding]:
    """Rank 0's host writes records and checkpoints; the others write only why they failed."""
    yield from judge_folder(facts)
    yield from judge_writing(facts, request)
    yield from judge_sharing(facts, request)
    yield from judge_room(facts, request)


def judge_folder(facts: dict[str, dict]) -> Iterator[Finding]:
    """Whether all hosts have the folder that the command was given in."""
    missing = [host for host, fact in facts.items() if fact["folder"] is None]
    for host in missing:
        yield warning(
            "folder",
            host,
            "it does not have the folder that this was started in",
            why="mpirun starts ranks there, or else in the home folder: relative paths mean something else",
            advice="start from a folder that all hosts have, and give absolute paths",
        )
    if not missing:
        yield ok("folder", told({host: fact["folder"] for host, fact in facts.items()}))


def judge_writing(facts: dict[str, dict], request: Request) -> Iterator[Finding]:
    failed = {host: fact["error"] for host, fact in facts.items() if fact["error"]}
    for host, error in failed.items():
        yield (problem if host == request.first_host else warning)(
            "runs folder",
            host,
            f"cannot write to {error}",
            why="rank 0 keeps the record and the checkpoints there, other ranks the reason when they fail",
            advice="make it writable, free space, or give another folder with --runs",
        )
    if not failed:
        slowest = max(fact["write_ms"] for fact in facts.values())
        yield ok("runs folder", f"{request.runs}: 1 MiB written, synced and renamed in {slowest:,.0f} ms")


def judge_sharing(facts: dict[str, dict], request: Request) -> Iterator[Finding]:
    if len(facts) == 1:
        yield skipped("shared runs folder", "one host")
        return
    apart = [host for host, fact in facts.items() if not fact["sees_mark"]]
    for host in apart:
        yield warning(
            "shared runs folder",
            host,
            f"{request.runs} is a folder of its own there",
            why="a run can be resumed only with rank 0 on the host that has its checkpoints, and why a rank failed stays there",
            advice="put --runs on a file system that all hosts mount",
        )
    if not apart:
        yield ok("shared runs folder", f"one for {len(facts)} hosts")


def judge_room(facts: dict[str, dict], request: Request) -> Iterator[Finding]:
    """Whether the checkpoints that are kept, and the one being written, fit on rank 0's host."""
    size = checkpoint_bytes(request.recipe.model)
    if size is None or request.first_host not in facts:
        yield skipped("disk", f"the size of a {request.recipe.model} checkpoint is not known without its library")
        return
    free, needed = facts[request.first_host]["free"], (request.keep_checkpoints + 1) * size
    room = f"{free / MIB:,.0f} MiB free; {request.keep_checkpoints} + 1 checkpoints of {request.recipe.model} take"
    if free < needed:
        yield problem(
            "disk",
            request.first_host,
            f"{request.runs}: {room} {needed / MIB:,.0f} MiB",
            why="a run stops when it cannot save its state",
            advice="free space, keep fewer with --keep-checkpoints, or give another folder with --runs",
        )
    else:
        yield ok("disk", f"{room} {needed / MIB:,.0f} MiB")


def checkpoint_bytes(model: str) -> int | None:
    """Weights and velocity with ImageNet's classes; None for a model that only its library knows.

    Raises UsageError for an unknown model.
    """
    if library_model(model):
        return None
    return BYTES_PER_PARAMETER * sum(one.size for one in describe(model, IMAGENET_CLASSES).parameters.values())
