"""`lbsgd doctor` over hosts: ready where all is well, and every planted fault is found by its name, on the host that has it."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import lbsgd
from lbsgd.launch import mpirun

pytestmark = pytest.mark.cluster

LIBFAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@pytest.fixture
def hosts(four_hosts) -> list:
    return four_hosts.hosts[:2]


@pytest.fixture
def examine(hosts, lbsgd_on, tmp_path) -> Callable[..., dict]:
    """examine("--interface", "eth0"): the report on both hosts, given on the first."""

    def examine(*arguments: object, timeout: float = 60) -> dict:
        names = ",".join(host.name for host in hosts)
        options = ("--hosts", names, "--framework", "torch", "--runs", tmp_path / "runs", "--timeout", timeout)
        result = lbsgd_on(hosts[0], "doctor", *options, "--json", *arguments)
        report = json.loads(result.stdout)
        assert result.code == (0 if report["ready"] else 3), result.stderr
        return report

    return examine


def findings(report: dict, status: str) -> dict[str, dict]:
    return {finding["check"]: finding for finding in report["findings"] if finding["status"] == status}


def only_problem(report: dict) -> dict:
    [problem] = [finding for finding in report["findings"] if finding["status"] == "problem"]
    assert problem["why"]
    assert problem["advice"]
    return problem


@contextmanager
def mounted(host, *mount: object) -> Iterator[None]:
    """Something over a path on one host only; the last of `mount` is the path."""
    host.run("mount", *mount)
    try:
        yield
    finally:
        host.run("umount", mount[-1])


@contextmanager
def interface(host, name: str, address: str) -> Iterator[None]:
    """One more network interface, which leads nowhere."""
    host.run("ip", "link", "add", name, "type", "bridge")
    try:
        host.run("ip", "address", "add", address, "dev", name)
        host.run("ip", "link", "set", name, "up")
        yield
    finally:
        host.run("ip", "link", "delete", name)


def test_two_sound_hosts_are_ready(examine, digits):
    report = examine("--data", digits, "--interface", "eth0")
    assert report["ready"], report
    sound = findings(report, "ok")
    assert sound["reach"]["found"] == "ssh to 2 hosts without a question"
    assert sound["world size"]["found"] == "asked 2, MPI saw 2"
    assert sound["interfaces"]["found"] == "eth0 on 2 hosts: 10.77.0.1/24 on node1, 10.77.0.2/24 on node2"
    assert sound["data"]["found"].endswith("the same listing on 2 hosts")
    assert {"allreduce (MPI)", "allreduce (Horovod with torch)", "shared runs folder", "clock", "disk"} <= sound.keys()


def test_a_host_without_the_named_interface(hosts, examine):
    with interface(hosts[0], "ib0", "10.99.0.1/24"):
        report = examine("--interface", "ib0", timeout=20)
    assert not report["ready"]
    wrong = findings(report, "problem")["interfaces"]
    assert wrong["host"] == "node2"
    assert wrong["found"] == "no interface ib0 with an address; it has lo, eth0"
    assert "eth0" in wrong["advice"]


def test_an_interface_that_is_docker0_everywhere_is_named_and_does_not_hang(hosts, examine):
    with interface(hosts[0], "docker0", "172.17.0.1/16"), interface(hosts[1], "docker0", "172.17.0.1/16"):
        chosen = findings(examine("--interface", "docker0", timeout=20), "problem")
        around = findings(examine("--interface", "eth0"), "problem")
        unnamed = findings(examine(timeout=20), "warning")
    assert chosen["interfaces"]["found"] == "docker0 has the address 172.17.0.1 on node1 and node2"
    assert chosen["interfaces"]["advice"] == "give --interface eth0"
    assert "world size" in chosen
    assert around == {}
    assert unnamed["interfaces"]["advice"] == "give --interface eth0"


def test_ranks_that_cannot_talk_are_told_and_ended_on_all_hosts(hosts, examine, monkeypatch):
    """mpirun reaches the hosts, so the ranks start, but MPI between them goes by an interface that leads nowhere."""
    monkeypatch.setenv("OMPI_MCA_btl_tcp_if_include", "docker0")
    with interface(hosts[0], "docker0", "172.17.0.1/16"), interface(hosts[1], "docker0", "172.17.0.1/16"):
        problem = only_problem(examine(timeout=20))
    assert problem["check"] == "world size"
    assert problem["found"] == "asked 2, started 2 on node1 and node2, met none within 20 s"
    assert "--interface" in problem["advice"]
    time.sleep(2)
    for host in hosts:
        assert "doctor rank" not in host.run("ps", "-eo", "args")


def test_a_host_without_lbsgd(hosts, examine):
    with mounted(hosts[1], "--bind", "/dev/null", mpirun.console_script()):
        problem = only_problem(examine())
    assert (problem["check"], problem["host"]) == ("lbsgd", "node2")
    assert problem["found"] == f"no {mpirun.console_script()}"


def test_a_host_that_cannot_be_reached(four_hosts, hosts, examine):
    four_hosts.cut(hosts[1])
    try:
        problem = only_problem(examine())
    finally:
        four_hosts.mend(hosts[1])
    assert (problem["check"], problem["host"]) == ("reach", "node2")
    assert problem["found"].startswith("ssh fails: ssh: connect to host node2")


def test_a_host_with_another_version(hosts, examine, tmp_path):
    other = tmp_path / "__init__.py"
    other.write_text(Path(lbsgd.__file__).read_text().replace(lbsgd.__version__, "9.9.9"))
    with mounted(hosts[1], "--bind", other, lbsgd.__file__):
        problem = only_problem(examine())
    assert (problem["check"], problem["host"]) == ("versions", "node2")
    assert problem["found"].startswith(f"lbsgd {lbsgd.__version__} and 9.9.9, lbsgd's source files ")


def test_a_host_without_the_data(hosts, examine, digits, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with mounted(hosts[1], "--bind", empty, digits):
        problem = only_problem(examine("--data", digits))
    assert (problem["check"], problem["host"]) == ("data", "node2")
    assert problem["found"] == f"{str(digits)!r} has no train/ and no val/"


def test_a_host_with_other_data(hosts, examine, digits, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(digits, other)
    next((other / "train").glob("*/*.png")).unlink()
    with mounted(hosts[1], "--bind", other, digits):
        problem = only_problem(examine("--data", digits))
    assert (problem["check"], problem["host"]) == ("data", "node2")
    assert problem["found"].startswith("another listing of train: ")


def test_a_launcher_that_starts_worlds_of_one(examine, tmp_path, monkeypatch):
    launcher = tmp_path / "bin" / "mpirun"
    launcher.parent.mkdir()
    script = f'"{mpirun.console_script()}" doctor rank'
    launcher.write_text(f'#!/bin/sh\ncase "$1" in --version) echo "mpirun (Open MPI) 4.1.8";; *) {script}; {script};; esac\n')
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", str(launcher.parent), prepend=":")
    problem = only_problem(examine())
    assert problem["check"] == "world size"
    assert problem["found"] == "asked 2, MPI saw 1: 2 runs of one rank each"


def test_a_full_disk(hosts, examine, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    with mounted(hosts[0], "-t", "tmpfs", "-o", "size=40m", "tmpfs", runs):
        report = examine()
    problem = only_problem(report)
    assert (problem["check"], problem["host"]) == ("disk", "node1")
    assert "40 MiB free; 5 + 1 checkpoints of resnet50 take 1,170 MiB" in problem["found"]
    apart = findings(report, "warning")["shared runs folder"]
    assert apart["host"] == "node2"


def test_a_clock_that_is_wrong(hosts, examine, tmp_path):
    profile = Path.home() / ".bashrc"
    if not (LIBFAKETIME.exists() and profile.exists()):
        pytest.skip("not installed: libfaketime (Debian: faketime), or there is no ~/.bashrc to set it in")
    shifted = tmp_path / "bashrc"
    shifted.write_text(f"export LD_PRELOAD={LIBFAKETIME} FAKETIME=+1h FAKETIME_DONT_FAKE_MONOTONIC=1\n")
    with mounted(hosts[1], "--bind", shifted, profile):
        problem = only_problem(examine())
    assert (problem["check"], problem["host"]) == ("clock", "node2")
    assert problem["found"].endswith(" s ahead")
    assert 3590 < float(problem["found"].split()[3].replace(",", "")) < 3610


def test_ranks_on_two_hosts_examine_themselves(hosts, start_on, finish, digits, tmp_path):
    prefix = ("--prefix", mpirun.remote_prefix(), "--allow-run-as-root", "-H", "node1:1,node2:1", "-np", 2)
    options = ("--framework", "torch", "--data", digits, "--runs", tmp_path, "--json")
    result = finish(start_on(hosts[0], "mpirun", *prefix, mpirun.console_script(), "doctor", *options), 120)
    report = json.loads(result.stdout)
    assert (result.code, report["ready"]) == (0, True), result.stdout
    assert findings(report, "ok")["data"]["found"].endswith("the same listing on 2 hosts")
    assert findings(report, "ok")["clock"]["found"] == "within 1 s on 2 hosts"
