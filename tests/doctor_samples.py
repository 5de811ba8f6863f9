"""Facts of sound hosts, as `lbsgd doctor facts` tells them, for tests to plant faults in."""

import copy
from pathlib import Path
from typing import Any

from lbsgd.doctor.request import Request
from lbsgd.launch.hosts import Allocation
from lbsgd.policy.recipe import load_recipe

SOUND: dict[str, Any] = {
    "software": {
        "python": "3.12.4",
        "versions": {"lbsgd": "0.1.0", "torch": "2.13.0"},
        "code": "c0de" * 16,
        "frameworks": {"torch": "2.13.0"},
        "horovod": {"version": "0.28.1", "built_for": {"torch": "2.13.0"}, "build": None},
    },
    "mpi": {"mpirun": "/usr/bin/mpirun", "launcher": "Open MPI 4.1.8", "library": "Open MPI 4.1.8", "error": None},
    "machine": {
        "gpus": 8,
        "nvidia_smi": {"gpus": ["NVIDIA H200, 580.82, 143771 MiB"] * 8},
        "nccl": "2.28.9",
        "shm_free": 64 << 30,
        "open_files": 65536,
        "locked_bytes": None,
        "rdma": ["mlx5_0"],
        "cores": list(range(96)),
        "cpu_quota": None,
    },
    "storage": {"folder": "/home/me", "sees_mark": True, "free": 1 << 40, "write_ms": 8.0, "error": None},
    "data": {"train": {"samples": 1281167, "digest": "a"}, "validation": {"samples": 50000, "digest": "b"}},
}


def sound_hosts(count: int) -> dict[str, dict]:
    """node1, node2, ... on one network, with nothing wrong."""
    hosts = {f"node{number}": copy.deepcopy(SOUND) for number in range(1, count + 1)}
    addresses = {name: f"10.0.0.{number}" for number, name in enumerate(hosts, 1)}
    for name, facts in hosts.items():
        facts["network"] = {
            "interfaces": {
                "lo": {"addresses": ["127.0.0.1/8"], "mtu": 65536},
                "eth0": {"addresses": [f"{addresses[name]}/24"], "mtu": 9000},
            },
            "routes": {peer: {"address": addresses[peer], "interface": "eth0"} for peer in hosts if peer != name},
        }
    return hosts


def request(count: int = 2, **changes: Any) -> Request:
    """A job of eight ranks on each of this many hosts."""
    allocation = Allocation({f"node{number}": 8 for number in range(1, count + 1)}, "--hosts", "slots")
    settings = {
        "allocation": allocation,
        "np": allocation.total,
        "launched": False,
        "oversubscribe": False,
        "interface": None,
        "frameworks": (),
        "data": "/data/imagenet",
        "runs": Path("/runs"),
        "recipe": load_recipe("goyal2017", []),
        "keep_checkpoints": 5,
        "timeout": 60.0,
    }
    return Request(**settings | changes)
