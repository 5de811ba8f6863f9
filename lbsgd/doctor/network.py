"""The hosts' network interfaces, and through which of them they reach each other.

Docker and libvirt give every host an interface (docker0, virbr0) with the same address. MPI and NCCL may take it for a network
that the hosts share: each then talks to itself, and the job hangs.
"""

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import psutil

from lbsgd.doctor.finding import Finding, names, ok, problem, skipped, told, warning
from lbsgd.doctor.request import Question, Request

LOOPBACK = "lo"


def look(question: Question) -> dict[str, Any]:
    """Interfaces that are up with their IPv4 addresses, and the way to each peer. Nothing is sent."""
    interfaces = _interfaces()
    return {"interfaces": interfaces, "routes": {peer: _route(peer, interfaces) for peer in question.peers}}


def _interfaces() -> dict[str, dict[str, Any]]:
    states = psutil.net_if_stats()
    found = {}
    for name, addresses in psutil.net_if_addrs().items():
        own = [f"{one.address}/{one.netmask}" for one in addresses if one.family == socket.AF_INET]
        if own and name in states and "up" in states[name].flags.split(","):
            found[name] = {"addresses": [str(ipaddress.ip_interface(one)) for one in own], "mtu": states[name].mtu}
    return found


def _route(peer: str, interfaces: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The interface that packets to `peer` leave by, from the address that the kernel chooses for a UDP socket."""
    try:
        address = socket.gethostbyname(peer)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            own = probe.getsockname()[0]
    except OSError as error:
        return {"error": error.strerror or str(error)}
    names_of = [name for name, fact in interfaces.items() if any(one.startswith(f"{own}/") for one in fact["addresses"])]
    return {"address": address, "interface": names_of[0] if names_of else "?"}


def judge(facts: dict[str, dict], request: Request) -> Iterator[Finding]:
    """What only matters between hosts is skipped on one."""
    if len(facts) == 1:
        yield skipped("interfaces", "one host")
        return
    interfaces = {host: fact["interfaces"] for host, fact in facts.items()}
    found = list(judge_named(interfaces, request.interface) if request.interface else judge_shared(interfaces, facts))
    yield from found or [ok("interfaces", _described(interfaces, request.interface))]
    yield from judge_routes({host: fact["routes"] for host, fact in facts.items()})


def judge_named(interfaces: dict[str, dict], name: str) -> Iterator[Finding]:
    """Whether the interface of --interface is there on every host and joins them."""
    for host, own in interfaces.items():
        if name not in own:
            yield problem(
                "interfaces",
                host,
                f"no interface {name} with an address; it has {', '.join(own)}",
                why="ranks are told to talk through it on every host",
                advice=f"give --interface a name that all hosts have: {_common(interfaces) or 'there is none, leave it out'}",
            )
    having = {host: own[name] for host, own in interfaces.items() if name in own}
    if len(having) < len(interfaces):
        return
    if trap := shared_addresses(interfaces).get(name):
        yield _same_address(name, *trap, problem, interfaces)
    elif name == LOOPBACK:
        yield problem(
            "interfaces",
            None,
            "lo leads nowhere but to the host itself",
            why="ranks of different hosts cannot reach each other through it",
            advice=f"give --interface one of {_common(interfaces) or 'the others'}",
        )
    else:
        yield from _judge_networks(name, having)


def _judge_networks(name: str, having: dict[str, dict]) -> Iterator[Finding]:
    networks = {host: ipaddress.ip_interface(fact["addresses"][0]).network for host, fact in having.items()}
    if len(set(networks.values())) > 1:
        yield warning(
            "interfaces",
            None,
            f"{name} is in {told(networks)}",
            why="hosts in different networks reach each other only where a router joins them",
            advice="check --interface; when the network is routed, all is well",
        )
    sizes = {host: fact["mtu"] for host, fact in having.items()}
    if len(set(sizes.values())) > 1:
        yield warning(
            "interfaces",
            None,
            f"{name} has MTU {told(sizes)}",
            why="small messages get through and large ones hang",
            advice="give it the same MTU on all hosts and the switch",
        )


def judge_shared(interfaces: dict[str, dict], facts: dict[str, dict]) -> Iterator[Finding]:
    """Without --interface: whether an interface could be taken for a network that the hosts share."""
    routes = [route["interface"] for fact in facts.values() for route in fact["routes"].values() if "interface" in route]
    for name, (address, hosts) in shared_addresses(interfaces).items():
        yield _same_address(name, address, hosts, warning, interfaces, routes[0] if routes else None)


def shared_addresses(interfaces: dict[str, dict]) -> dict[str, tuple[str, list[str]]]:
    """Interfaces with an address that several hosts have: the address, and the hosts."""
    hosts_of: dict[tuple[str, str], list[str]] = {}
    for host, own in interfaces.items():
        for name, fact in own.items():
            for address in fact["addresses"]:
                if not ipaddress.ip_interface(address).is_loopback:
                    hosts_of.setdefault((name, address), []).append(host)
    return {name: (address.partition("/")[0], hosts) for (name, address), hosts in hosts_of.items() if len(hosts) > 1}


def _same_address(name: str, address: str, hosts: list[str], kind, interfaces: dict, better: str | None = None) -> Finding:
    choice = better or _common(interfaces)
    return kind(
        "interfaces",
        None,
        f"{name} has the address {address} on {names(hosts)}",
        why="a host that sends there talks to itself: MPI and NCCL hang when they choose it",
        advice=f"give --interface {choice}" if choice else "name the interface that joins the hosts with --interface",
    )


def _common(interfaces: dict[str, dict]) -> str:
    """Names that all hosts have, without those that do not join them."""
    traps = {LOOPBACK, *shared_addresses(interfaces)}
    first, *others = interfaces.values()
    return ", ".join(name for name in first if name not in traps and all(name in own for own in others))


def _described(interfaces: dict[str, dict], name: str | None) -> str:
    if name:
        return (
            f"{name} on {len(interfaces)} hosts: {told({host: own[name]['addresses'][0] for host, own in interfaces.items()})}"
        )
    listed = {host: ", ".join(one for one in own if one != LOOPBACK) for host, own in interfaces.items()}
    return f"{told(listed)}; no address twice"


def judge_routes(routes: dict[str, dict[str, dict]]) -> Iterator[Finding]:
    """Whether every host knows the others, and none of them as itself."""
    found = []
    for host, own in routes.items():
        unknown = {peer: route["error"] for peer, route in own.items() if "error" in route}
        if unknown:
            peer, error = next(iter(unknown.items()))
            found.append(
                warning(
                    "routes",
                    host,
                    f"it does not know the way to {names(list(unknown))}: {peer}: {error}",
                    why="Horovod's Gloo and NCCL's first meeting go by name",
                    advice=f"add {peer} to DNS or to /etc/hosts of {host}",
                )
            )
        looped = [peer for peer, route in own.items() if ipaddress.ip_address(route.get("address", "0.0.0.0")).is_loopback]
        if looped:
            found.append(
                problem(
                    "routes",
                    host,
                    f"it takes {names(looped)} for itself ({own[looped[0]]['address']})",
                    why="what it sends there never leaves it",
                    advice=f"correct /etc/hosts of {host}",
                )
            )
    leaving = {route["interface"] for own in routes.values() for route in own.values() if "interface" in route}
    yield from found or [ok("routes", f"the hosts reach each other through {', '.join(sorted(leaving))}")]
