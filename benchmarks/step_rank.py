"""One rank of train_step.py: builds its contestant, then takes steps with the one it is told to, and says how long that took.

usage: step_rank.py ADDRESS FRAMEWORK CONTESTANT PRECISION,... RANKS BATCH SIZE
"""

import importlib
import os
import sys
import time
from multiprocessing.connection import Client, Connection
from typing import Any

CLASSES = 1000
MODULES = {"horovod": "stock", "ddp": "ddp", "mirrored": "mirrored"}


def main(address: str, framework: str, contestant: str, precisions: str, ranks: str, batch: str, size: str) -> None:
    """Answer until the other side hangs up."""
    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ["STEP_RANK"])
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank]})  # before numpy or a framework starts threads
    connection = Client(address, family="AF_UNIX")
    connection.send(rank)
    shape = {"batch": int(batch), "size": int(size), "classes": CLASSES}
    loops = build(framework, contestant, precisions.split(","), rank, int(ranks), shape)
    sizes = next(iter(loops.values())).gradient_sizes()
    from lbsgd.record.environment import versions

    connection.send({"pid": os.getpid(), "gradient_sizes": sizes, "versions": versions() | framework_version(framework)})
    serve(connection, loops)
    os._exit(0)  # the others may be gone: nothing that ends together may be waited for


def build(
    framework: str, contestant: str, precisions: list[str], rank: int, ranks: int, shape: dict[str, int]
) -> dict[str, Any]:
    """The contestant in every precision."""
    place = {"rank": rank, "ranks": ranks}
    if contestant in ("lbsgd", "horovod"):
        from lbsgd.ranks.world import connect

        world = connect()
        place = {"world": world, "framework": framework} if contestant == "lbsgd" else {}
    name = "lbsgd_loop" if contestant == "lbsgd" else f"{MODULES[contestant]}_{framework}"
    module = importlib.import_module(name)
    return {precision: module.Loop(precision=precision, **place, **shape) for precision in precisions}


def serve(connection: Connection, loops: dict[str, Any]) -> None:
    """Take the steps that are asked for and answer with their seconds."""
    while True:
        try:
            precision, steps = connection.recv()
        except EOFError:
            return
        start = time.perf_counter()
        loops[precision].take(steps)
        connection.send(time.perf_counter() - start)


def framework_version(framework: str) -> dict[str, str]:
    """By the framework's own name, also where a distribution has another."""
    return {framework: importlib.import_module(framework).__version__}


if __name__ == "__main__":
    main(*sys.argv[1:])
