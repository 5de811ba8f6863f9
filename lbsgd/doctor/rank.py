"""One rank of the doctor's trial: says that it is there, meets the others, sums arrays with them and compares the sums.

It tells what happened in lines of JSON, so that of a trial that hangs it is known how far it came.
"""

import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lbsgd.errors import EnvironmentNotReady, LbsgdError
from lbsgd.ranks.world import World, connect, launched


def tell(**event: Any) -> None:
    """One line in one write: mpirun passes on the lines of all ranks."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def meet() -> World | None:
    """Start MPI. None, with the reason told, when the ranks that were started did not all find each other."""
    tell(event="started", host=socket.gethostname())
    try:
        return connect()
    except EnvironmentNotReady as error:
        tell(event="alone", size=mpi_size(), error=str(error))
        return None


def mpi_size() -> int | None:
    """Ranks that MPI sees; None when it did not start."""
    if "mpi4py.MPI" not in sys.modules:
        return None
    from mpi4py import MPI

    return MPI.COMM_WORLD.size


def is_speaker() -> bool:
    """Whether the launcher numbered this process 0: of ranks that did not meet, one speaks for all."""
    numbers = (os.environ.get(name) for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID", "HOROVOD_RANK"))
    return launched() is None or next((number for number in numbers if number), "0") == "0"


def try_out(world: World, framework: str | None, say: Callable[..., None]) -> None:
    """Sum arrays by MPI, or by Horovod with `framework`, and say of the largest how it went. Collective.

    Raises LbsgdError when Horovod is missing.
    """
    from lbsgd.measuring.allreduce import Sweep, measure, open_transports
    from lbsgd.ranks.agreement import together

    # In bytes: one packet, some, and enough to show a wrong MTU.
    sizes = {"begin": 64, "end": 4 << 20, "factor": 256}
    sweep = Sweep(**sizes, step=None, iterations=1, warm_up=1, check=True, datatype="float32")
    through = "horovod" if framework else "mpi4py"
    [transport] = together(world, lambda: open_transports(world, [through], framework or "torch", sweep.datatype))
    rows = [row for rows in measure(world, transport, sweep) for row in rows]
    if world.is_first:
        say(
            event="summed",
            bytes=rows[-1].bytes,
            seconds=rows[-1].seconds,
            wrong=sum(row.wrong for row in rows),
            device=transport.environment()["device"],
        )


@contextmanager
def time_limit(seconds: float, stage: str) -> Iterator[None]:
    """End this process, whatever it waits for, unless the block ends before: a wait inside MPI cannot be broken off."""

    def give_up() -> None:
        print(f"Error: no end of {stage} within {seconds:g} s on {socket.gethostname()}", file=sys.stderr, flush=True)
        os._exit(EnvironmentNotReady.exit_code)

    timer = threading.Timer(seconds, give_up)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def be_rank(framework: str | None) -> int:
    """A rank's whole life, and its exit code."""
    from lbsgd.ranks.failure import leave_together

    world = meet()
    if world is None:
        return EnvironmentNotReady.exit_code
    if world.is_first:
        tell(event="met", size=world.size)
    try:
        try_out(world, framework, tell)
    except LbsgdError as error:
        leave_together(world, error, None)
    return 0
