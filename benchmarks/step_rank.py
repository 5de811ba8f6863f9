"""One rank of train_step.py: builds its contestants, then takes steps with the one it is told to, and says how long that took.

usage: step_rank.py ADDRESS FRAMEWORK CONTESTANT,... PRECISION,... RANKS BATCH SIZE
"""

import importlib
import os
import sys
import time
from multiprocessing.connection import Client, Connection
from typing import Any

CLASSES = 1000
MODULES = {"horovod": "stock", "ddp": "ddp", "mirrored": "mirrored"}


def main(address: str, framework: str, contestants: str, precisions: str, ranks: str, batch: str, size: str) -> None:
    """Answer until the other side hangs up."""
    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ["STEP_RANK"])
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank]})  # before numpy or a framework starts threads
    connection = Client(address, family="AF_UNIX")
    connection.send(rank)
    shape = {"batch": int(batch), "size": int(size), "classes": CLASSES}
    loops = build(framework, contestants.split(","), precisions.split(","), rank, int(ranks), shape)
    sizes = {name: loops[name, precisions.split(",")[0]].gradient_sizes() for name in contestants.split(",")}
    from lbsgd.record.environment import versions

    connection.send({"pid": os.getpid(), "gradient_sizes": sizes, "versions": versions() | framework_version(framework)})
    serve(connection, loops)
    os._exit(0)  # the others may be gone: nothing that ends together may be waited for


def build(
    framework: str, contestants: list[str], precisions: list[str], rank: int, ranks: int, shape: dict[str, int]
) -> dict[tuple[str, str], Any]:
    """Every contestant in every precision."""
    loops: dict[tuple[str, str], Any] = {}
    if "lbsgd" in contestants:
        import lbsgd_loop

        from lbsgd.ranks.world import connect

        world = connect()
        for precision in precisions:
            loops["lbsgd", precision] = lbsgd_loop.Loop(world, framework, precision=precision, **shape)
    for name in contestants:
        for precision in precisions if name != "lbsgd" else ():
            module = importlib.import_module(f"{MODULES[name]}_{framework}")
            place = {} if name == "horovod" else {"rank": rank, "ranks": ranks}
            loops[name, precision] = module.Loop(precision=precision, **place, **shape)
    return loops


def serve(connection: Connection, loops: dict[tuple[str, str], Any]) -> None:
    """Take the steps that are asked for and answer with their seconds."""
    while True:
        try:
            name, precision, steps = connection.recv()
        except EOFError:
            return
        start = time.perf_counter()
        loops[name, precision].take(steps)
        connection.send(time.perf_counter() - start)


def framework_version(framework: str) -> dict[str, str]:
    """By the framework's own name, also where a distribution has another."""
    return {framework: importlib.import_module(framework).__version__}


if __name__ == "__main__":
    main(*sys.argv[1:])
