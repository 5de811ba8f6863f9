"""Ranks without MPI: threads of one process, joined by a double of mpi4py's communicator."""

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from lbsgd.errors import LbsgdError
from lbsgd.ranks.world import World, hosts_of

TIMEOUT = 20.0
"""Seconds after which a rank that waits for others gives up, and the test fails."""


class ThreadCommunicator:
    """One rank's end of what joins the threads: lbsgd.ranks.world.Communicator."""

    def __init__(self, rank: int, slots: list, meeting: threading.Barrier) -> None:
        self.rank, self.slots, self.meeting = rank, slots, meeting

    def allgather(self, value: Any) -> list[Any]:
        self.slots[self.rank] = copy.deepcopy(value)  # the sender's own object stays with it
        self.meeting.wait()
        gathered = list(self.slots)
        self.meeting.wait()
        return gathered

    def bcast(self, value: Any) -> Any:
        return self.allgather(value)[0]

    def Allreduce(self, values: np.ndarray, total: np.ndarray) -> None:
        total[...] = np.sum(self.allgather(values), axis=0)

    def Barrier(self) -> None:
        self.meeting.wait()

    def Abort(self, exit_code: int) -> None:
        self.meeting.abort()


def alone_world() -> World:
    """The world of a process that nobody launched."""
    return World(0, 1, 0, 1, ThreadCommunicator(0, [None], threading.Barrier(1)), ["localhost"])


def on_ranks(count: int, action: Callable[[World], Any], local_size: int | None = None) -> list[Any]:
    """What action(world) returned, or the LbsgdError it raised, on each of `count` ranks; a thread is called by its rank.

    Any other error ends all ranks and is raised here.
    """
    local_size = local_size or count
    slots, meeting = [None] * count, threading.Barrier(count, timeout=TIMEOUT)

    def be_rank(rank: int) -> Any:
        threading.current_thread().name = str(rank)
        communicator = ThreadCommunicator(rank, slots, meeting)
        try:
            hosts = hosts_of(communicator)
            return action(World(rank, count, rank % local_size, local_size, communicator, hosts))
        except LbsgdError as error:
            return error
        except BaseException:
            meeting.abort()
            raise

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(be_rank, range(count)))
