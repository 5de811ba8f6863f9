"""The same losses on the GPU as on the CPU, with virtual workers as with ranks, after a resume, and nearly so in 16 bits."""

import math
from concurrent.futures import ThreadPoolExecutor

from part import NO_GPU, Part, losses_of, run_lbsgd, train

STEPS = 20
ON_CPU = {"CUDA_VISIBLE_DEVICES": ""}


def run(part: Part) -> None:
    """Train resnet20 on the digits for STEPS iterations in each way and compare."""
    run_lbsgd(part, "data", "demo", "digits")
    common = ("--recipe", "demo", "--data", "digits", "--efficiency-every", 0, "--compile", "off")
    whole = (*common, "--max-steps", STEPS)
    ways = {
        "gpu": (*whole, "--precision", "fp32"),
        "compiled": (*whole, "--precision", "fp32", "--compile", "on"),
        "bf16": (*whole, "--precision", "bf16"),
        "fp16": (*whole, "--precision", "fp16"),
        "accumulated": (*whole, "--precision", "fp32", "--accumulate", 4),
        "uninterrupted": (*whole, "--deterministic"),
        "interrupted": (*common, "--max-steps", STEPS // 2, "--deterministic"),
    }
    at_once = 4 if part.on_gpu else 1
    with ThreadPoolExecutor(at_once) as pool:
        runs = dict(zip(ways, pool.map(lambda name: train(part, name, *ways[name]), ways), strict=True))
    runs["cpu"] = train(part, "cpu", *whole, "--precision", "fp32", **ON_CPU)
    runs["four ranks"] = train(part, "four-ranks", *whole, "--precision", "fp32", "--np", 4, "--oversubscribe", **ON_CPU)
    losses = {name: losses_of(path) for name, path in runs.items()}
    train(part, "interrupted", "--resume", "interrupted", "--deterministic", *whole[4:])
    losses["resumed"] = losses_of(runs["interrupted"])
    part.record(losses=losses)
    compare(part, losses)


def compare(part: Part, losses: dict[str, list[float]]) -> None:
    """Judge the losses; without a GPU "gpu" is the CPU, and its comparison with the CPU says nothing."""
    if part.on_gpu:
        part.check("fp32 on the GPU as on the CPU", apart(losses["gpu"], losses["cpu"]) < 1e-3, **worst(losses, "gpu", "cpu"))
    else:
        part.skip("fp32 on the GPU as on the CPU", NO_GPU)
    pairs = {
        "compiled as not compiled": ("compiled", "gpu", 1e-3),
        "4 virtual workers as 4 ranks": ("accumulated", "four ranks", 1e-3),
        "bf16 within 2 %": ("bf16", "gpu", 2e-2),
        "fp16 within 2 %": ("fp16", "gpu", 2e-2),
    }
    for name, (first, second, limit) in pairs.items():
        part.check(name, apart(losses[first], losses[second]) < limit, **worst(losses, first, second))
    part.check("resumed bit by bit", losses["resumed"] == losses["uninterrupted"], **worst(losses, "resumed", "uninterrupted"))


def apart(first: list[float], second: list[float]) -> float:
    """The largest relative difference of two runs' losses; infinite when one is not finite or misses an iteration."""
    if len(first) != len(second) or not all(map(math.isfinite, first + second)):
        return math.inf
    return max(abs(a - b) / abs(b) for a, b in zip(first, second, strict=True))


def worst(losses: dict[str, list[float]], first: str, second: str) -> dict[str, object]:
    """What a comparison is judged by, as JSON."""
    largest = apart(losses[first], losses[second])
    return {"largest_relative_difference": largest if math.isfinite(largest) else None, "iterations": len(losses[first])}
