"""Horovod, built offline for this machine."""

import json
import time

from part import NO_GPU, Part, run_lbsgd

LONGEST = 180.0
"""Seconds on 16 cores."""


def run(part: Part) -> None:
    """Build and install Horovod from the kit's source; on a GPU, with NCCL."""
    (source,) = part.kit.glob("horovod-*.tar.gz")
    started = time.monotonic()
    operations = "nccl" if part.on_gpu else "auto"
    run_lbsgd(part, "horovod", "build", "--sdist", source, "--no-index", "--operations", operations, "--no-verify")
    seconds = time.monotonic() - started
    part.record(build_seconds=round(seconds, 1))
    if part.on_gpu:
        part.check("built within three minutes", seconds < LONGEST, value=round(seconds, 1), target=LONGEST)
    else:
        part.skip("built within three minutes", NO_GPU)
    report = json.loads(run_lbsgd(part, "horovod", "check", "--framework", "torch", "--json").stdout)
    part.record(horovod=report["horovod"], frameworks=report["frameworks"], mpirun=report["mpirun"])
    part.check("two ranks reduce exactly over MPI", report["ready"])
    if part.on_gpu:
        part.check("built with NCCL", report["frameworks"]["torch"]["allreduce"]["nccl"])
    else:
        part.skip("built with NCCL", NO_GPU)
