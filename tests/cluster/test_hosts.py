"""The cluster on one machine is one: hosts with names, ssh between them, cables of a known rate, and an end without traces."""

import subprocess
import sys

import psutil
import pytest

from .hosts import cluster, whats_missing

pytestmark = pytest.mark.cluster

RECEIVES = """
import socket, time
with socket.create_server(("", 7000)) as server:
    print("listening", flush=True)
    connection = server.accept()[0]
    count, begin = 0, time.perf_counter()
    while received := len(connection.recv(1 << 20)):
        count += received
    print(8e-9 * count / (time.perf_counter() - begin))
"""
SENDS = """
import socket, sys
with socket.create_connection((sys.argv[1], 7000)) as connection:
    connection.sendall(bytes(int(sys.argv[2])))
"""


def test_every_host_is_reached_by_name_from_every_host(four_hosts):
    for host in four_hosts.hosts:
        for name in four_hosts.names:
            assert host.run("ssh", name, "hostname").strip() == name


def test_a_host_has_its_own_card_and_processes(four_hosts):
    for host in four_hosts.hosts:
        assert f"inet {host.address}/24" in host.run("ip", "address", "show", "eth0")
        assert "node" not in host.run("ip", "link")
        assert "sshd" in host.run("ps", "-p", "1", "-o", "comm=")


@pytest.mark.parametrize("gbit", [0.2, 1])
def test_a_cable_carries_what_it_is_limited_to(four_hosts, gbit):
    sender, receiver = four_hosts.hosts[:2]
    four_hosts.limit(gbit)
    listening = subprocess.Popen(receiver.command(sys.executable, "-c", RECEIVES), stdout=subprocess.PIPE, text=True)
    with listening:
        assert listening.stdout.readline() == "listening\n"
        sender.run(sys.executable, "-c", SENDS, receiver.name, int(gbit * 1e9 / 8))
        rate = float(listening.stdout.readline())
    four_hosts.limit(1)
    assert rate == pytest.approx(gbit, rel=0.1)


def test_a_cable_can_be_pulled_and_put_back(four_hosts):
    here, there = four_hosts.hosts[0], four_hosts.hosts[3]
    four_hosts.cut(there)
    with pytest.raises(subprocess.CalledProcessError):
        here.run("ssh", "-o", "ConnectTimeout=1", there.name, "true")
    four_hosts.mend(there)
    here.run("ssh", there.name, "true")


def test_nothing_outlives_a_cluster_that_ends_in_an_error(tmp_path):
    if reason := whats_missing():
        pytest.skip(reason)
    before = subprocess.run(["ip", "link"], capture_output=True, check=True).stdout
    with pytest.raises(ZeroDivisionError), cluster(2, tmp_path) as hosts:
        [first, second] = hosts.hosts
        first.run("ssh", second.name, "sleep 1000 > /dev/null 2>&1 & sleep 1000 > /dev/null 2>&1 &")
        beginnings = [psutil.Process(host.pid) for host in hosts.hosts]
        processes = [process for begin in beginnings for process in (begin, *begin.children(recursive=True))]
        assert sum("sleep" in process.name() for process in processes) == 2
        raise ZeroDivisionError
    assert psutil.wait_procs(processes, timeout=5)[1] == []
    assert subprocess.run(["ip", "link"], capture_output=True, check=True).stdout == before
