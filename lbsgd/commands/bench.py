"""`lbsgd bench`: measure what limits a run."""

import json
import os
from dataclasses import asdict
from typing import Any

import click

from lbsgd.commands.bench_allreduce import bench_allreduce
from lbsgd.commands.bench_scaling import bench_rank, bench_scaling_options, run_scaling
from lbsgd.commands.options import POSITIVE, data_option


@click.group(invoke_without_command=True)
@bench_scaling_options
@click.pass_context
def bench(ctx: click.Context, /, **options: Any) -> None:
    """Measure how training scales over numbers of workers, and what limits it.

    Each number of workers runs as a job of its own on this host, on --hosts, or on the hosts of the surrounding Slurm, PBS, LSF
    or MPIJob allocation. The study is saved in RUNS/<utc>-bench: bench.json, bench.csv, bench.md, bench.png. The same command
    resumes a study that was stopped, or whose sizes failed.

    \b
      lbsgd bench --gpus 8,64,256
      lbsgd bench --gpus 1,2 --framework torch,tensorflow --model resnet18
    """
    if ctx.invoked_subcommand is None:
        run_scaling(**options)


bench.add_command(bench_rank)
bench.add_command(bench_allreduce)


@bench.command("input")
@data_option(required=True, help="Data set: a folder, or `synthetic`.")
@click.option("--recipe", metavar="NAME|FILE", default="goyal2017", show_default=True, help="How images are augmented.")
@click.option("--threads", type=POSITIVE, help="Image-reading threads.  [default: one per core]")
@click.option("--batch", type=POSITIVE, default=256, show_default=True, help="Images per batch.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Length of each of the three measurements.",
)
@click.option(
    "--feed",
    type=click.FloatRange(min=0, min_open=True),
    metavar="IMAGES",
    help="Images per second that a host's GPUs consume: report whether this process keeps up, and how many cores that takes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
def bench_input(
    data: str, recipe: str, threads: int | None, batch: int, seconds: float, feed: float | None, as_json: bool
) -> None:
    """Measure how fast training images can be made from a data set.

    Nothing is trained: images are read, decoded, cropped and put into batches as `lbsgd train` does, in one thread, then in all
    of them, then stage by stage.

    \b
      lbsgd bench input --data /data/imagenet --feed 3000
    """
    from lbsgd.data import open_dataset
    from lbsgd.measuring.input import measure_input
    from lbsgd.policy.recipe import load_recipe

    settings = load_recipe(recipe, []).images
    source = open_dataset(data).train
    cores = len(os.sched_getaffinity(0))
    speed = measure_input(source, settings, threads=threads or cores, batch=batch, seconds=seconds)
    report = {"data": data, "samples": len(source), "cores": cores, "size": settings.size, **asdict(speed)}
    if feed is not None:
        report["feed"] = {
            "images_per_second": feed,
            "keeps_up": speed.per_process >= feed,
            "cores_needed": speed.cores_for(feed),
        }
    click.echo(json.dumps(report, indent=2) if as_json else _text(report))


def _text(report: dict) -> str:
    stages, threads = report["stage_ms"], report["threads"]
    whole = sum(stages.values())
    lines = [
        f"{report['samples']:,} training images of {report['data']}, made into {report['size']} x {report['size']} pixels",
        f"one thread    {report['per_core']:8,.0f} images/s",
        f"{threads} threads     {report['per_process']:8,.0f} images/s, {report['per_process'] / threads:,.0f} per thread",
        f"an image      {whole:8.3f} ms: "
        + ", ".join(f"{stage} {ms:.3f} ({100 * ms / whole:.0f} %)" for stage, ms in stages.items()),
    ]
    if feed := report.get("feed"):
        verdict = "keeps up" if feed["keeps_up"] else "does NOT keep up"
        lines.append(
            f"to feed       {feed['images_per_second']:8,.0f} images/s: this process {verdict}; "
            f"it takes about {feed['cores_needed']} cores like these"
        )
    return "\n".join(lines)
