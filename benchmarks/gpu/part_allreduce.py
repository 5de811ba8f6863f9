"""Horovod's allreduce of GPU tensors: one rank over NCCL, then two ranks that share the GPU."""

import json
import subprocess
import sys
from pathlib import Path

from part import NO_GPU, Part

RANKS = Path(__file__).with_name("allreduce_ranks.py")
REFUSAL_SECONDS = 30.0
"""NCCL refuses two ranks on one GPU at its first use; some versions hang instead."""


def run(part: Part) -> None:
    """Reduce on the device with one rank, then with two as far as NCCL allows it, else through host memory."""
    if not part.on_gpu:
        part.skip("one rank over NCCL", NO_GPU)
        part.skip("two ranks on one GPU over NCCL", NO_GPU)
        keep(part, "two ranks through host memory", reduce(part, 2, "host"))
        return
    keep(part, "one rank over NCCL", reduce(part, 1, "device"))
    shared = reduce(part, 2, "device", REFUSAL_SECONDS)
    part.record(shared_gpu=shared)
    if "error" in shared:
        part.skip("two ranks on one GPU over NCCL", f"refused: {shared['error']}")
    else:
        keep(part, "two ranks on one GPU over NCCL", shared)
    keep(part, "two ranks through host memory", reduce(part, 2, "host"))


def reduce(part: Part, ranks: int, where: str, timeout: float | None = None) -> dict:
    """What rank 0 of allreduce_ranks.py reports, or {"error": ...}."""
    mpirun = ["mpirun", "-np", str(ranks), "--oversubscribe", "--bind-to", "none", "--mca", "btl", "self,vader"]
    command = [*mpirun, sys.executable, str(RANKS), where, "small" if part.rehearse else "large"]
    limit = min(timeout or part.seconds_left, part.seconds_left)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {limit:.0f} s"}
    if done.returncode != 0:
        telling = [line for line in done.stderr.splitlines() if "rror" in line or "uplicate" in line]
        return {"error": (telling or [f"exit code {done.returncode}"])[0].strip()}
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


def keep(part: Part, name: str, found: dict) -> None:
    """Keep the figures and whether every sum was exact."""
    part.check(name, found.get("exact", False), **found)
