"""Records to report on, made through the code that makes real ones: runs by RunRecord, studies by Study."""

import math
import random
from pathlib import Path
from typing import Any

from lbsgd.measuring.study import Result, Settings, Study
from lbsgd.policy.plan import make_plan
from lbsgd.policy.recipe import load_recipe
from lbsgd.record.run_record import RunRecord

ENVIRONMENT = {"versions": {"lbsgd": "0.1.0", "torch": "2.13.0"}, "processor": "CPU", "devices": ["GPU"] * 4, "cores": 96,
               "backend": {"device": "GPU", "threads": None}}  # fmt: skip


def write_run(folder: Path, *, steps: int = 300, workers: int = 8, hostile: str = "", speeds: bool = True) -> RunRecord:
    """A finished run of `steps` steps, 50 an epoch, whose loss falls and wavers. hostile: goes wherever text can be."""
    recipe = load_recipe("goyal2017", ["epochs=90"])
    plan = make_plan(recipe, world_size=workers, accumulate=1, samples=50 * 32 * workers, classes=1000)
    record = RunRecord.create(folder)
    record.begin(0, facts(plan, workers, hostile))
    draw = random.Random(workers)
    for step in range(steps):
        epoch = step / 50
        loss = 6.9 * math.exp(-3 * step / steps) + draw.uniform(-0.3, 0.3)
        record.log("step", step=step, epoch=epoch, lr=plan.schedule.lr(step * plan.total_iterations // steps), loss=loss)
        if speeds and step % 20 == 19:
            record.log("speed", step=step, epoch=epoch, images_per_second=workers * draw.uniform(240, 260))
        if speeds and workers > 1 and step % 10 == 5:
            parts = {"compute_ms": 110.0, "waiting_ms": 4.0, "communication_ms": 13.0, "allreduce_ms": 31.0}
            record.log("efficiency", step=step, epoch=epoch, efficiency=draw.gauss(0.866, 0.03), step_ms=127.0, **parts)
        if step % 50 == 49:
            error = 0.24 + 0.7 * math.exp(-4 * step / steps)
            record.log("eval", step=step, epoch=epoch + 1 / 50, top1_error=error, loss=loss, samples=50000)
    record.log("bad_sample", step=9, split="train", sample=3, name=f"n01/{hostile}.JPEG", reason=f"truncated {hostile}")
    per_worker = 250.0
    record.end("failed" if hostile else "done", hostile or None)
    record.update(
        throughput={
            "images_per_second": per_worker * workers,
            "images_per_second_per_worker": per_worker,
            "step_ms": {"p50": 127.1, "p90": 131.0, "p99": 160.4},
            "steps_timed": steps - 3,
        },
        time_split={"data": 0.02, "compute": 0.84, "waiting": 0.03, "communication": 0.10, "other": 0.01},
        scaling={
            "workers": workers,
            "efficiency": 0.866,
            "interval": [0.85, 0.88],
            "pairs": 25,
            "baseline_workers": 1,
            "baseline_images_per_second": 288.7,
            "baseline_run": None,
            "method": "measured-steps",
            "allreduce_ms": 31.0,
            "hidden": 0.6,
            "cost": 0.004,
        },
        scaling_baseline={
            "workers": workers,
            "efficiency": 0.91,
            "baseline_workers": 1,
            "baseline_images_per_second": 274.7,
            "baseline_run": f"20260101T000000Z-bench{hostile}",
            "method": "baseline-run",
        },
        final={
            "top1_error": 0.2374,
            "loss": 0.96,
            "epoch": 90.0,
            "top1_error_median_of_final_epochs": 0.2381,
            "samples": 50000,
        },
        bad_samples={"policy": "replace:100", "train": 1, "val": 0},
    )
    return record


def facts(plan: Any, workers: int, hostile: str) -> dict[str, Any]:
    """What a run knows of itself before its first step."""
    schedule = plan.schedule
    hosts = [f"node{host:02d}{hostile}" for host in range(max(1, workers // 8))]
    return {
        "framework": "torch",
        "command": f"lbsgd train --framework torch --data /data/imagenet {hostile}",
        "data": f"/data/imagenet{hostile}",
        "world": {"size": workers, "local_size": 8, "hosts": hosts, "launcher": "mpirun", "accumulate": 1,
                  "virtual_workers": workers},
        "recipe": plan.recipe.model_dump(mode="json"),
        "schedule": {
            "reference_lr": schedule.reference_lr,
            "peak_lr": schedule.peak_lr,
            "global_batch": plan.global_batch,
            "warmup_iterations": schedule.warmup_iterations,
            "iterations_per_epoch": schedule.iterations_per_epoch,
            "total_iterations": schedule.total_iterations,
        },
        "bad_samples": {"policy": "replace:100", "train": 0, "val": 0},
        "environment": {**ENVIRONMENT, "hosts": hosts},
    }  # fmt: skip


def write_study(folder: Path, *, gpus: tuple[int, ...] = (8, 16, 64, 128, 256), error: str = "exit code 3: no slots") -> Study:
    """A study in which TensorFlow's largest size failed, and in which rank 5 is slow and communication grows."""
    recipe = load_recipe("goyal2017", []).model_dump(mode="json")
    settings = Settings(
        gpus=gpus,
        frameworks=("torch", "tensorflow"),
        recipe=recipe,
        data="/data/imagenet",
        repeats=3,
        steps=20,
        warm_up=5,
        oversubscribed=False,
        hosts=None,
        baseline=min(gpus),
        threads_per_worker=None,
    )

    def run_size(framework: str, workers: int, folder: Path) -> Result:
        if framework == "tensorflow" and workers == max(gpus):
            return Result([], None, error)
        return Result([measurement(framework, workers, repeat) for repeat in range(3)], ENVIRONMENT, None)

    study = Study.create(folder, settings, "lbsgd bench --gpus 8,16,64,128,256 --framework torch,tensorflow")
    study.run(run_size, lambda line: None)
    return study


def measurement(framework: str, workers: int, seed: int) -> dict[str, Any]:
    """One round: compute of 120 ms (torch) or 131 ms, communication that grows with the logarithm of the workers."""
    draw = random.Random(f"{framework}{workers}{seed}")
    compute = {"torch": 120.0, "tensorflow": 131.0}[framework]
    exposed = 4.5 * math.log2(workers) - 8 if workers > 1 else 0.0
    ranks = [
        {
            "rank": rank,
            "host": f"node{rank // 8:02d}",
            "compute_ms": compute + (9.0 if rank == 5 else draw.uniform(-0.5, 0.5)),
            "data_ms": 1.5,
            "other_ms": 0.4,
        }
        for rank in range(workers)
    ]
    slowest = max(rank["compute_ms"] for rank in ranks)
    for rank in ranks:
        waiting = slowest - rank["compute_ms"]
        rank |= {"step_ms": slowest + exposed + 1.9, "waiting_ms": waiting, "communication_ms": exposed}
    return {
        "step_ms": [slowest + exposed + 1.9 + draw.gauss(0, 1.5) for _ in range(20)],
        "images_per_step": 32 * workers,
        "gradient_bytes": 102_228_128,
        "allreduce_ms": 3 * exposed if workers > 1 else None,
        "ranks": ranks,
        "efficiencies": [compute / (slowest + exposed)] * 4 if workers > 1 else [],
        "hosts": sorted({rank["host"] for rank in ranks}),
    }
