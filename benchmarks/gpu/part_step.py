"""ResNet-50's step: lbsgd's own, as a run takes it, beside a plain PyTorch loop, in one process and in turns.

The plain loop has the easier life: its images are on the device already, normalised, and it reads no loss. lbsgd copies bytes
from the host, normalises them on the device and reads every loss one step late.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, cycle
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pairs import summarise
from part import Part

from lbsgd.backends import ReplicaSpec, load
from lbsgd.data.batch import Batch
from lbsgd.measuring.steps import take_steps
from lbsgd.policy.plan import make_plan
from lbsgd.policy.recipe import load_recipe
from lbsgd.ranks.world import World, connect

CLASSES = 1000
IMAGENET = 1_281_167
LEAST_ROUNDS, MOST_ROUNDS = 5, 21


@dataclass(frozen=True)
class Shape:
    """What is trained in a step: a batch of images, size pixels a side."""

    model: str
    batch: int
    size: int
    steps: int


@dataclass
class Contestant:
    """take(steps) returns when the device has finished them. peak: bytes of its turns beyond what was there before."""

    take: Callable[[int], float]
    first_seconds: float
    peak: int = 0


def run(part: Part) -> None:
    """Measure both batch sizes; then, in what time is left, what else lbsgd's network might be compiled to."""
    world = connect()
    device = torch.device("cuda", 0) if part.on_gpu else torch.device("cpu")
    shapes = [Shape("resnet50", 256, 224, 5), Shape("resnet50", 512, 224, 4)] if part.on_gpu else [Shape("resnet18", 4, 64, 1)]
    rate = matmul_rate(device, 8192 if part.on_gpu else 512)
    part.record(matmul_tflops=rate / 1e12)
    for number, shape in enumerate(shapes):
        variants = {"plain": plain_loop, "parts": compiled_in_parts, "off": not_compiled}
        if number:
            variants.pop("off")
        share = part.seconds_left * (0.55 if number == 0 and len(shapes) > 1 else 0.75)
        compare(part, world, device, shape, variants, rate, time.monotonic() + share)
    if part.seconds_left > 60 or part.rehearse:
        variants = {"plain": plain_loop, "whole": compiled_whole}
        if part.on_gpu:
            variants["graphs"] = compiled_to_graphs
        compare(part, world, device, shapes[0], variants, rate, time.monotonic() + 0.8 * part.seconds_left, extra=True)


def compare(
    part: Part,
    world: World,
    device: torch.device,
    shape: Shape,
    variants: dict[str, Callable],
    rate: float,
    until: float,
    extra: bool = False,
) -> None:
    """Let the variants of one shape take turns and keep their ratios to the plain loop."""
    contestants = {name: start(make, world, device, shape) for name, make in variants.items()}
    rounds = take_turns(contestants, device, shape, until)
    name = f"{shape.model}, {shape.batch} x {shape.size} px{', other ways to compile' if extra else ''}"
    part.record(**{name: describe(contestants, rounds, shape, rate)})
    ratios = part.content[name]["over_plain"]
    if not extra:
        part.target(f"{name}: lbsgd over the plain loop", ratios["parts"]["median"], 1.0)


def start(make: Callable, world: World, device: torch.device, shape: Shape) -> Contestant:
    """A contestant after its first two steps, in which it is compiled."""
    begin = time.perf_counter()
    take = make(world, device, shape)
    take(2)
    return Contestant(take, time.perf_counter() - begin)


def take_turns(contestants: dict[str, Contestant], device: torch.device, shape: Shape, until: float) -> list[dict[str, float]]:
    """Seconds of a step of each contestant in each round; another one begins each time, the first round does not count."""
    names, rounds = list(contestants), []
    while len(rounds) <= MOST_ROUNDS and (len(rounds) <= LEAST_ROUNDS or time.monotonic() < until):
        first = len(rounds) % len(names)
        seconds = {}
        for name in names[first:] + names[:first]:
            seconds[name] = one_turn(contestants[name], device, shape.steps)
        rounds.append(seconds)
    return rounds[1:]


def one_turn(contestant: Contestant, device: torch.device, steps: int) -> float:
    """Seconds of each of `steps` steps."""
    before = 0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    begin = time.perf_counter()
    contestant.take(steps)
    seconds = (time.perf_counter() - begin) / steps
    if device.type == "cuda":
        contestant.peak = max(contestant.peak, torch.cuda.max_memory_allocated() - before)
    return seconds


def describe(contestants: dict[str, Contestant], rounds: list[dict[str, float]], shape: Shape, rate: float) -> dict[str, Any]:
    """Images per second, share of the matrix product's rate, memory, and ratios over the plain loop."""
    work = 3 * forward_flops(shape) * shape.batch
    each = {}
    for name, contestant in contestants.items():
        seconds = median(turn[name] for turn in rounds)
        each[name] = {
            "images_per_second": shape.batch / seconds,
            "step_ms": 1000 * seconds,
            "share_of_matmul_rate": work / seconds / rate,
            "peak_gigabytes": contestant.peak / 1e9,
            "seconds_to_second_step": contestant.first_seconds,
        }
    ratios = {name: summarise([turn["plain"] / turn[name] for turn in rounds]) for name in contestants if name != "plain"}
    return {"rounds": len(rounds), "seconds": rounds, "contestants": each, "over_plain": ratios}


def forward_flops(shape: Shape) -> float:
    """Floating point operations of one image's forward pass; backward takes twice as many."""
    from torch.utils.flop_counter import FlopCounterMode

    from lbsgd.backends.torch.network import ResidualNetwork
    from lbsgd.models import describe as description_of

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        ResidualNetwork(description_of(shape.model, CLASSES))(torch.empty(1, 3, shape.size, shape.size))
    return float(counter.get_total_flops())


def matmul_rate(device: torch.device, side: int) -> float:
    """Operations a second of a product of two square bf16 matrices of random numbers, the median of several."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(10):
        synchronize(device)
        begin = time.perf_counter()
        for _ in range(4):
            a @ b
        synchronize(device)
        seconds.append((time.perf_counter() - begin) / 4)
    return 2 * side**3 / median(seconds[2:])


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def plain_loop(world: World, device: torch.device, shape: Shape) -> Callable[[int], None]:
    """What a user writes after PyTorch's documentation: torchvision's network, AMP, channels last, torch.compile, fused SGD."""
    import torchvision

    network = torchvision.models.get_model(shape.model, weights=None).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True)
    step = torch.compile(network)
    images = torch.randn(shape.batch, 3, shape.size, shape.size, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (shape.batch,), device=device)

    def take(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16):
                loss = F.cross_entropy(step(images), labels)
            loss.backward()
            optimizer.step()
        synchronize(device)

    return take


def lbsgd_loop(world: World, device: torch.device, shape: Shape, compile: str, change: Callable | None = None) -> Callable:
    """lbsgd's backend driven by its own loop. change: what is done to the network before its first step."""
    overrides = [f"model={shape.model}", f"batch_per_worker={shape.batch}", f"images.size={shape.size}", "precision=bf16"]
    recipe = load_recipe("goyal2017", overrides)
    backend = load("torch", ReplicaSpec(recipe=recipe, classes=CLASSES, world=world, compile=compile))
    backend.broadcast()
    if change:
        change(backend)
    schedule = make_plan(recipe, world_size=1, samples=IMAGENET).schedule
    batches, position = ready_batches(backend, shape), count()

    def take(steps: int) -> None:
        for _ in take_steps(backend, batches, schedule.lr, [next(position) for _ in range(steps)]):
            pass
        synchronize(device)

    return take


def ready_batches(backend: Any, shape: Shape) -> Iterator[Batch]:
    """Batches as the loader hands them over, four of them in turn."""
    random = np.random.default_rng(0)
    made = []
    for _ in range(4):
        images = backend.allocate((shape.batch, shape.size, shape.size, 3))
        images[:] = random.integers(0, 256, images.shape, dtype=np.uint8)
        made.append(Batch(images, random.integers(0, CLASSES, shape.batch), shape.batch))
    return cycle(made)


def compiled_in_parts(world: World, device: torch.device, shape: Shape) -> Callable:
    """As a run on a GPU does it."""
    return lbsgd_loop(world, device, shape, "on")


def not_compiled(world: World, device: torch.device, shape: Shape) -> Callable:
    """--compile off."""
    return lbsgd_loop(world, device, shape, "off")


def compiled_whole(world: World, device: torch.device, shape: Shape) -> Callable:
    """One region: nothing of the allreduce would overlap."""
    return lbsgd_loop(world, device, shape, "off", lambda backend: backend.network.compile(dynamic=False))


def compiled_to_graphs(world: World, device: torch.device, shape: Shape) -> Callable:
    """One region, replayed as CUDA graphs."""
    return lbsgd_loop(world, device, shape, "off", lambda b: b.network.compile(dynamic=False, mode="reduce-overhead"))
