"""A cluster on one machine: every host is a set of namespaces with a network card, a host name and an ssh server of its own.

Hosts see the same files, as over a network file system. A host is whatever descends from its first process, the ssh server:
when that is killed, the kernel takes back its processes, mounts, addresses and cables, so nothing is left to undo.
"""

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

CARD = "eth0"
"""The network card of every host."""

SERVERS_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
PROGRAMS = ("setpriv", "unshare", "nsenter", "taskset", "ip", "tc", "sshd", "ssh", "ssh-keygen")

NAMESPACES = ("--net", "--uts", "--ipc", "--mount", "--pid")
BOOT = """
hostname "$1"
ip link set lo up
echo reno > /proc/sys/net/ipv4/tcp_congestion_control
mount --bind "$2/ssh" /etc/ssh
mount --bind "$2/hosts" /etc/hosts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir /run/sshd
echo up
exec taskset -c "$4" "$3" -D
"""

PROBE = f"""
ip link add switch type bridge
ip link add port type veth peer name {CARD}
tc qdisc add dev {CARD} root tbf rate 1gbit burst 256kb latency 50ms
"""

SSH_CONFIG = """
IdentityFile /etc/ssh/key
GlobalKnownHostsFile /etc/ssh/known_hosts
UserKnownHostsFile /dev/null
BatchMode yes
ConnectTimeout 5
LogLevel ERROR
"""
SSHD_CONFIG = """
HostKey /etc/ssh/key
AuthorizedKeysFile /etc/ssh/key.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
PidFile none
"""


@dataclass(frozen=True)
class Host:
    """A host that is up. pid: of its first process. core: the only one of this machine that it computes with."""

    name: str
    address: str
    pid: int
    core: int

    def command(self, *arguments: object) -> list[str]:
        """The command that runs `arguments` on this host, in the caller's working folder."""
        enter = [f"--target={self.pid}", *NAMESPACES]
        return [
            _program("nsenter"),
            *enter,
            "taskset",
            "-c",
            str(self.core),
            "env",
            f"--chdir={Path.cwd()}",
            *map(str, arguments),
        ]

    def run(self, *arguments: object, timeout: float = 60.0) -> str:
        """Standard output of a command that is to succeed on this host."""
        return _run(*self.command(*arguments), timeout=timeout)


@dataclass(frozen=True)
class Cluster:
    """Hosts on one switch."""

    hosts: Sequence[Host]
    switch: int
    """The process that has the switch."""

    @property
    def names(self) -> list[str]:
        return [host.name for host in self.hosts]

    def slots(self, per_host: int = 1) -> str:
        """All hosts as a list for --hosts."""
        return ",".join(f"{host.name}:{per_host}" for host in self.hosts)

    def limit(self, gbit: float | None) -> None:
        """Let every cable carry this many Gbit/s each way, or as much as the machine can."""
        for host in self.hosts:
            for namespace, card in ((host.pid, CARD), (self.switch, host.name)):
                _limit(namespace, card, gbit)

    def cut(self, host: Host) -> None:
        """Pull the host's cable out of the switch."""
        _inside(self.switch, "ip", "link", "set", host.name, "down")

    def mend(self, host: Host) -> None:
        """Put it back."""
        _inside(self.switch, "ip", "link", "set", host.name, "up")


def whats_missing() -> str | None:
    """Why this machine cannot be a cluster; None when it can."""
    if os.geteuid() != 0:
        return "namespaces of hosts take root"
    absent = [name for name in PROGRAMS if shutil.which(name, path=SERVERS_PATH) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (Debian: util-linux, iproute2, openssh-server)"
    command = [_program("unshare"), *NAMESPACES, "--fork", "--mount-proc", "sh", "-e", "-c", PROBE]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True)
    return f"the kernel refuses namespaces, bridges or tbf: {done.stderr.strip()}" if done.returncode else None


@contextmanager
def cluster(size: int, folder: Path, cores: Sequence[int] | None = None) -> Iterator[Cluster]:
    """`size` hosts, node1 and so on, on one switch. folder: empty, for what they need. cores: what they compute with, in turn;
    all that there are by default.

    Raises OSError and subprocess.CalledProcessError where a machine cannot be one (`whats_missing`).
    """
    addresses = {f"node{number}": f"10.77.0.{number}" for number in range(1, size + 1)}
    _write_configuration(folder, addresses)
    with ExitStack() as stack:
        switch = stack.enter_context(_process("--net", "sh", "-c", "echo up; exec sleep infinity"))
        _inside(switch, "ip", "link", "add", "switch", "up", "type", "bridge")
        hosts = []
        for (name, address), core in zip(addresses.items(), itertools.cycle(cores or sorted(os.sched_getaffinity(0)))):
            boot = ("sh", "-e", "-c", BOOT, "boot", name, str(folder), _program("sshd"), str(core))
            pid = stack.enter_context(_process(*NAMESPACES, "--mount-proc", *boot))
            hosts.append(Host(name, address, pid, core))
            _connect(hosts[-1], switch)
        yield Cluster(hosts, switch)


def _write_configuration(folder: Path, addresses: dict[str, str]) -> None:
    """/etc/hosts and /etc/ssh of all hosts. One key is everything: of the servers and of their only user."""
    ssh = folder / "ssh"
    ssh.mkdir()
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(ssh / "key"))
    (ssh / "known_hosts").write_text(f"* {(ssh / 'key.pub').read_text()}")
    (ssh / "ssh_config").write_text(SSH_CONFIG)
    (ssh / "sshd_config").write_text(SSHD_CONFIG)
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
    (folder / "hosts").write_text("\n".join(lines) + "\n")


@contextmanager
def _process(*arguments: str) -> Iterator[int]:
    """A process in namespaces of its own, once it said that it is up. At the end, or with us, all that came of it is killed."""
    command = ["setpriv", "--pdeathsig", "KILL", _program("unshare"), "--fork", "--kill-child", *arguments]
    with subprocess.Popen(command, env=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout.readline() != "up\n":
                raise OSError(f"a host did not start: {command}")
            [first] = psutil.Process(process.pid).children()
            yield first.pid
        finally:
            process.kill()


def _connect(host: Host, switch: int) -> None:
    """A cable from the host's card to a port of the switch, which has the host's name."""
    _inside(switch, "ip", "link", "add", host.name, "type", "veth", "peer", "name", CARD, "netns", str(host.pid))
    _inside(switch, "ip", "link", "set", host.name, "master", "switch", "up")
    _inside(host.pid, "ip", "address", "add", f"{host.address}/24", "dev", CARD)
    _inside(host.pid, "ip", "link", "set", CARD, "up")


def _limit(namespace: int, card: str, gbit: float | None) -> None:
    if gbit is None:
        _inside(namespace, "tc", "qdisc", "replace", "dev", card, "root", "noqueue")
    else:
        rate = ("rate", f"{gbit:g}gbit", "burst", "256kb", "latency", "50ms")
        _inside(namespace, "tc", "qdisc", "replace", "dev", card, "root", "tbf", *rate)


def _inside(pid: int, *command: str) -> None:
    """Run a command in the network of a process."""
    _run("nsenter", f"--target={pid}", "--net", *command)


def _run(*command: str, timeout: float = 60.0) -> str:
    return subprocess.run(command, env=_environment(), timeout=timeout, check=True, stdout=subprocess.PIPE, text=True).stdout


def _program(name: str) -> str:
    """Its full path: sshd wants to be started by that."""
    return shutil.which(name, path=SERVERS_PATH) or name


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": SERVERS_PATH}
