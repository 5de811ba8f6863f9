"""Whether lbsgd's input pipeline keeps its memory epoch after epoch: resident memory of a process that does nothing else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

TARGET_MEGABYTES = 50


def measure(folder: Path, scratch: Path, *, images: int, epochs: int, batch: int) -> dict[str, Any]:
    """The memory part of the report. scratch: where a data set of `images` links to the files of `folder` is made."""
    linked = scratch / "linked"
    link_repeatedly(folder, linked, images)
    command = [sys.executable, __file__, str(linked), str(epochs), str(batch)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    shutil.rmtree(linked)
    resident = json.loads(done.stdout)
    return {
        "images": images,
        "epochs": epochs,
        "megabytes_after_epoch": resident,
        "growth_megabytes": resident[-1] - resident[0],
        "target_megabytes": TARGET_MEGABYTES,
    }


def link_repeatedly(folder: Path, linked: Path, images: int) -> None:
    """A data set of `images` training files that are hard links to those of `folder`, each as often as it takes."""
    shutil.copytree(folder / "val", linked / "val", copy_function=os.link)
    files = sorted((folder / "train").glob("*/*"), key=lambda file: file.name)  # classes in turn
    for number in range(images):
        file = files[number % len(files)]
        link = linked / "train" / file.parent.name / f"{number // len(files):04}_{file.name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.hardlink_to(file)


def run_epochs(folder: str, epochs: int, batch: int) -> list[float]:
    """Megabytes resident at the end of each epoch."""
    from lbsgd.data import open_dataset
    from lbsgd.data.batch import Reading, Share
    from lbsgd.data.loader import training_batches
    from lbsgd.policy.order import Order
    from lbsgd.policy.recipe import load_recipe

    source, settings = open_dataset(folder).train, load_recipe("goyal2017", []).images
    order = Order(0, len(source), batch)
    iterations = epochs * order.iterations_per_epoch
    threads = len(os.sched_getaffinity(0))
    batches = training_batches(source, settings, order, Share(), range(iterations), Reading(threads))
    resident = []
    for iteration, _ in enumerate(batches, start=1):
        if iteration % order.iterations_per_epoch == 0:
            resident.append(psutil.Process().memory_info().rss / 1e6)
            print(f"epoch {len(resident)} of {epochs}: {resident[-1]:.0f} MB", file=sys.stderr)
    return resident


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    resident = report["megabytes_after_epoch"]
    return (
        f"memory after the first of {report['epochs']} epochs of {report['images']} images {resident[0]:.0f} MB, after the "
        f"last {resident[-1]:.0f} MB: {report['growth_megabytes']:+.1f} MB (target: less than {report['target_megabytes']})"
    )


if __name__ == "__main__":
    print(json.dumps(run_epochs(sys.argv[1], *map(int, sys.argv[2:]))))
