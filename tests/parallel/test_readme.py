"""Every command of the README and of docs/ works as printed, in order, in an empty folder; the README's trainings learn."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))))
FIXED_KEYS = {
    "schema": (), "id": (), "status": (), "framework": (), "command": (), "environment": (),
    "world": ("size", "local_size", "hosts", "launcher"),
    "recipe": ("name", "model", "epochs", "batch_per_worker", "optimizer", "learning_rate", "warmup", "decay", "images"),
    "schedule": ("reference_lr", "peak_lr", "global_batch", "warmup_iterations", "iterations_per_epoch", "total_iterations"),
    "throughput": ("images_per_second", "images_per_second_per_worker", "step_ms"),
    "time_split": ("data", "compute", "communication", "other"),
    "scaling": ("workers", "efficiency", "baseline_workers", "baseline_images_per_second", "baseline_run", "method"),
    "final": ("top1_error", "loss", "epoch"),
}  # fmt: skip


def commands(page: str) -> list[str]:
    """The lines of a page's console blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line and not line.startswith("source ")]


MAKE = [line for page in PAGES for line in commands(page) if line.startswith("make ")]
LBSGD = [(page, line) for page in PAGES if page != "CONTRIBUTING.md" for line in commands(page) if not line.startswith("make ")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A folder for each page, with the files that it shows: TOML that begins with its name as a comment."""
    made = {page: tmp_path_factory.mktemp(Path(page).stem) for page in PAGES}
    for page, folder in made.items():
        for name, text in re.findall(r"^```toml\n# (\S+)\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE):
            (folder / name).write_text(text)
    return made


@pytest.fixture(scope="module")
def folder(folders) -> Path:
    return folders["README.md"]


@pytest.mark.parametrize("command", MAKE)
def test_make_targets_exist(command):
    """That they work is for CI to show: it runs train, lint and test by make."""
    subprocess.run(["bash", "-c", command.replace("make", "make --dry-run", 1)], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("page, command", LBSGD)
def test_command_works_as_printed(page, command, folders):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folders[page], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_two_workers_learn_the_digits_and_record_it(framework, folder):
    (run,) = folder.glob(f"runs/*-demo-{framework}")
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "done"
    assert record["world"]["size"] == 2
    assert record["final"]["top1_error"] <= 0.03
    assert record["scaling"]["method"] == "measured-steps"
    assert sum(record["time_split"].values()) == pytest.approx(1)
    for key, inner in FIXED_KEYS.items():
        assert key in record
        assert all(name in record[key] for name in inner), key


def test_the_resumed_run_is_one_record_of_two_attempts_in_two_frameworks(folder):
    record = json.loads((folder / "runs/stopped/run.json").read_text())
    assert [(attempt["framework"], attempt["start_iteration"]) for attempt in record["attempts"]] == [
        ("torch", 0),
        ("tensorflow", 30),
    ]
    lines = [json.loads(line) for line in (folder / "runs/stopped/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "step"] == list(range(60))
