"""The processes of train_step.py: groups of ranks that take steps when they are told to.

Horovod's thread asks all ranks what is ready a thousand times per second, also when nothing is. On ranks of one core that takes
time from whoever shares the process. So every contestant has processes of its own; those with Horovod are stopped outside of
their turns.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import IO

from lbsgd.errors import EnvironmentNotReady
from lbsgd.launch import mpirun
from lbsgd.launch.job import Job

PROGRAM = Path(__file__).with_name("step_rank.py")
CONTESTANTS = {"torch": ("lbsgd", "horovod", "ddp"), "tensorflow": ("lbsgd", "horovod", "mirrored")}
BY_MPIRUN = ("lbsgd", "horovod")


class Group:
    """The ranks of a contestant. gradient_sizes: numbers in each of its gradients."""

    def __init__(self, contestant: str, log: IO[str], connections: list[Connection], stop: bool) -> None:
        self.contestant, self._log, self._connections, self._stop = contestant, log, connections, stop
        hellos = [self._receive(connection) for connection in connections]
        self._pids = [hello["pid"] for hello in hellos]
        self.gradient_sizes: list[int] = hellos[0]["gradient_sizes"]
        self.versions: dict[str, str] = hellos[0]["versions"]
        self._signal(signal.SIGSTOP)

    def take(self, precision: str, steps: int) -> list[float]:
        """Let all ranks take that many steps; each rank's seconds."""
        self._signal(signal.SIGCONT)
        for connection in self._connections:
            connection.send((precision, steps))
        seconds = [self._receive(connection) for connection in self._connections]
        self._signal(signal.SIGSTOP)
        return seconds

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids if self._stop else ():
            os.kill(pid, number)

    def _receive(self, connection: Connection):
        try:
            return connection.recv()
        except (EOFError, ConnectionError) as error:
            self._log.seek(0)
            lines = [line.strip() for line in self._log.read().splitlines() if line.strip(" -")]
            telling = [line for line in lines if "Error" in line]
            reason = (telling or lines or ["no message"])[-1]
            raise EnvironmentNotReady(f"the ranks of {self.contestant} ended: {reason}") from error


@contextmanager
def groups_of(framework: str, np: int, precisions: tuple[str, ...], batch: int, size: int) -> Iterator[list[Group]]:
    """The groups of a framework's contestants, built and waiting; they end with the context.

    Raises EnvironmentNotReady when ranks end instead.
    """
    with ExitStack() as stack:
        groups = []
        for contestant in CONTESTANTS[framework]:
            arguments = [framework, contestant, ",".join(precisions), str(np), str(batch), str(size)]
            groups.append(stack.enter_context(started(contestant, arguments, np, horovod=contestant in BY_MPIRUN)))
        yield groups


@contextmanager
def started(contestant: str, arguments: list[str], np: int, horovod: bool) -> Iterator[Group]:
    """A group of np ranks, by mpirun where Horovod needs it."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as log:
        address = str(Path(folder, "socket"))
        with Listener(address, family="AF_UNIX", backlog=np) as listener:
            command = (sys.executable, str(PROGRAM), address, *arguments)
            processes = start_ranks(command, np, log, horovod)
            try:
                yield Group(contestant, log, accept(listener, np, processes), stop=horovod)
            finally:
                for process in processes:
                    process.kill()
                    process.wait()


def start_ranks(command: tuple[str, ...], np: int, log: IO[str], horovod: bool) -> list[subprocess.Popen]:
    """mpirun, or the ranks themselves with the addresses that the frameworks' own ways want to know."""
    output = {"stdout": log, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    if horovod:
        argv = mpirun.render(Job(np=np, command=command), one_thread)
        return [subprocess.Popen(argv, env=one_thread, **output)]
    addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports(np))
    environments = [one_thread | {"STEP_RANK": str(rank), "STEP_ADDRESSES": addresses} for rank in range(np)]
    return [subprocess.Popen(command, env=environment, **output) for environment in environments]


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def accept(listener: Listener, np: int, processes: list[subprocess.Popen]) -> list[Connection]:
    """A connection from each rank, in the order of ranks.

    Raises EnvironmentNotReady when a process ends before.
    """
    found: dict[int, Connection] = {}
    listener._listener._socket.settimeout(1.0)
    while len(found) < np:
        try:
            connection = listener.accept()
        except TimeoutError:
            if any(process.poll() is not None for process in processes):
                raise EnvironmentNotReady("a rank ended before it connected") from None
            continue
        found[connection.recv()] = connection
    return [found[rank] for rank in range(np)]
