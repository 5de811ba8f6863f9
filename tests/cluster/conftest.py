"""Fixtures of the cluster on one machine."""

from collections.abc import Callable, Iterator

import pytest

from lbsgd.launch import mpirun

from .hosts import Cluster, cluster, whats_missing


@pytest.fixture(scope="session")
def four_hosts(tmp_path_factory) -> Iterator[Cluster]:
    """node1 to node4, on cables of 1 Gbit/s. Skips the test, with the reason, where this machine cannot be that."""
    if reason := whats_missing():
        pytest.skip(reason)
    with cluster(4, tmp_path_factory.mktemp("hosts")) as hosts:
        hosts.limit(1)
        yield hosts


@pytest.fixture
def start_on(start, monkeypatch) -> Callable:
    """start_on(host, "horovodrun", ...): a program as a process on a host, with a thread for each of its ranks."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMPI_MCA_mpi_yield_when_idle", "1")  # Open MPI cannot know that its hosts share cores

    def start_on(host, *command: object, **options):
        program, *arguments = host.command(*command)
        return start(*arguments, script=program, **options)

    return start_on


@pytest.fixture
def lbsgd_on(start_on, finish) -> Callable:
    """lbsgd_on(host, "train", ...): run the command on a host to its end."""

    def lbsgd_on(host, *arguments: object, timeout: float = 240.0):
        return finish(start_on(host, mpirun.console_script(), *arguments), timeout)

    return lbsgd_on
