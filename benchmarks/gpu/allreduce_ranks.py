"""A program for ranks: reduces arrays of several sizes by Horovod, checks and times them; rank 0 prints JSON.

usage: allreduce_ranks.py device|host small|large
"""

import json
import sys
import time

import horovod.torch as hvd
import torch

SIZES = {"small": (1 << 12, 1 << 20), "large": (1 << 12, 1 << 20, 1 << 24, 100_000_000)}
"""Bytes; the last is about ResNet-50's gradients."""
REPEATS = 10


def main(where: str, sizes: str) -> None:
    hvd.init()
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", 0) if on_gpu else torch.device("cpu")
    found = [reduce(size // 4, device, through_host=where == "host") for size in SIZES[sizes]]
    if hvd.rank() == 0:
        built = {"nccl": bool(hvd.nccl_built()), "mpi": bool(hvd.mpi_built())}
        print(
            json.dumps({"ranks": hvd.size(), **built, "exact": all(one["exact"] for one in found), "sizes": found}), flush=True
        )
    hvd.shutdown()


def reduce(count: int, device: torch.device, through_host: bool) -> dict[str, object]:
    """The sum over ranks of small integers, which float32 holds exactly, and the median time of an allreduce."""
    values = (torch.arange(count, device=device) % 1000).float()
    mine = values * (hvd.rank() + 1)
    seconds = []
    for repeat in range(REPEATS):
        synchronize(device)
        start = time.perf_counter()
        given = mine.cpu() if through_host else mine
        total = hvd.allreduce(given, op=hvd.Sum, name=f"sum.{count}.{repeat}").to(device)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    exact = bool(torch.equal(total, values * (hvd.size() * (hvd.size() + 1) // 2)))
    return {"bytes": 4 * count, "exact": exact, "median_ms": 1000 * sorted(seconds)[REPEATS // 2]}


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main(*sys.argv[1:])
