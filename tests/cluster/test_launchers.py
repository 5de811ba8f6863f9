"""Every launcher that starts ranks over ssh starts the same run, on two hosts and on four, with every MPI."""

import os
import shutil
from pathlib import Path

import pytest

from lbsgd.launch import mpirun
from lbsgd.launch.job import Job
from lbsgd.launch.mpi_flavour import FLAVOURS
from lbsgd.launch.mpirun import render

from ..mpi_environments import PACKAGES, make_environment
from .hosts import CARD
from .test_ranks_over_hosts import SHORT, hosts_of, losses_of

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def losses_on_one_host(four_hosts, digits, tmp_path_factory):
    """losses_on_one_host(count): of as many ranks on the first host, started once."""
    found: dict[int, list[float]] = {}

    def losses_on_one_host(count: int, lbsgd_on) -> list[float]:
        if count not in found:
            run = tmp_path_factory.mktemp("one host") / "run"
            train = ("train", "--framework", "torch", "--data", digits, *SHORT, "--run-dir", run)
            result = lbsgd_on(four_hosts.hosts[0], *train, "--np", count, "--oversubscribe")
            assert result.code == 0, result.stderr
            found[count] = losses_of(run)
        return found[count]

    return losses_on_one_host


@pytest.mark.parametrize("launcher", ["mpirun", "horovodrun"])
@pytest.mark.parametrize("count", [2, 4])
def test_a_launcher_over_hosts_has_the_losses_of_one_host(
    four_hosts, lbsgd_on, digits, tmp_path, losses_on_one_host, launcher, count
):
    if launcher == "horovodrun" and shutil.which("horovodrun") is None:
        pytest.skip("horovodrun is not installed")
    names = four_hosts.names[:count]
    (tmp_path / "hosts").write_text("".join(f"{name} slots=1\n" for name in names))
    launch = ("launch", launcher, "--hostfile", tmp_path / "hosts", "--interface", CARD, "--")
    train = ("train", "--framework", "torch", "--data", digits, *SHORT, "--run-dir", tmp_path / "run")
    result = lbsgd_on(four_hosts.hosts[0], *launch, *train)
    assert result.code == 0, result.stderr
    assert hosts_of(tmp_path / "run") == names
    # Two numbers have one sum; of more, the order of adding depends on what Horovod found ready at the same time.
    tolerance = 0.0 if count == 2 else 1e-5
    assert losses_of(tmp_path / "run") == pytest.approx(losses_on_one_host(count, lbsgd_on), rel=tolerance, abs=0)


SUMS = """
import os
from array import array
from mpi4py import MPI
world = MPI.COMM_WORLD
total = array("d", bytes(8 << 20))
world.Allreduce(array("d", [world.rank]) * (1 << 20), total)
told = world.gather((os.uname().nodename, "SECRET" in os.environ, os.environ.get("LBSGD_TOLD")))
if world.rank == 0:
    print(set(total), *told)
"""


@pytest.fixture(params=[None, CARD])
def interface(request, four_hosts):
    """One to name. Then there is a wrong one too: Docker's has the same address on every host, and leads a host to itself."""
    hosts = four_hosts.hosts if request.param else []
    for host in hosts:
        host.run("sh", "-e", "-c", "ip link add docker0 up type bridge; ip address add 172.17.0.1/16 dev docker0")
    yield request.param
    for host in hosts:
        host.run("ip", "link", "delete", "docker0")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_ranks_of_every_mpi_meet_over_hosts(four_hosts, start_on, finish, monkeypatch, tmp_path_factory, flavour, interface):
    """Two ranks on the second host, one on the third; they get what they are to get of the environment, and no secrets."""
    folder = make_environment(flavour, tmp_path_factory.getbasetemp())
    if folder is None:
        pytest.skip(f"pip cannot install {PACKAGES[flavour]}")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SECRET", "of the login shell")
    monkeypatch.setenv("LBSGD_TOLD", "by name")
    command = (str(folder / "python"), "-c", SUMS)
    job = Job(np=3, command=command, hosts={"node2": 2, "node3": 1}, interface=interface, flavour=flavour)
    argv = render(job, os.environ, Path(mpirun.remote_prefix()))
    result = finish(start_on(four_hosts.hosts[0], *argv), 60)
    assert result.code == 0, result.stderr
    told = "('node2', False, 'by name')"
    assert result.stdout.strip() == f"{{3.0}} {told} {told} ('node3', False, 'by name')"
