"""Runs the jobs of a study, several at a time, by `lbsgd train`, and keeps what came out."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from statistics import fmean
from threading import Event

from lbsgd.errors import LbsgdError, NotFinite
from lbsgd.experiments.grid import Job
from lbsgd.experiments.results import Result, Results
from lbsgd.launch.mpirun import console_script
from lbsgd.record.run_record import read_metrics, read_run

KEPT_LINES = 5
"""Of what a run that failed said last."""
DIGITS = 5
"""Decimals of the losses and errors that are kept."""


class CellsFailed(LbsgdError):
    """Some runs of a study have no result."""

    exit_code = 3


def run_jobs(
    jobs: Sequence[Job], results: Results, folder: Path, *, recipe: str, data: str, at_once: int, say: Callable[[str], None]
) -> None:
    """Take the runs that have no result yet. folder: where runs lie while they run.

    A run that diverges is a result. One that fails is told and left for the next time. Raises CellsFailed at the end when any
    has failed; KeyboardInterrupt when all that run have been ended.
    """
    waiting = [job for job in jobs if job.id not in results.runs]
    say(f"{len(jobs)} runs, {len(jobs) - len(waiting)} of them done; {at_once} at a time")
    threads, stop, durations, failed = max(1, len(os.sched_getaffinity(0)) // at_once), Event(), list[float](), 0

    def take(job: Job) -> Result | None:
        return None if stop.is_set() else run_job(job, folder, recipe=recipe, data=data, threads=threads, stop=stop)

    with ThreadPoolExecutor(at_once) as pool:
        running: set[Future[Result | None]] = {pool.submit(take, job) for job in waiting}
        total = len(running)
        try:
            while running:
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for result in filter(None, (one.result() for one in ended)):
                    durations.append(result.seconds)
                    failed += result.status == "failed"
                    if result.status != "failed":
                        results.add(result)
                    left = fmean(durations) * len(running) / at_once
                    say(f"{total - len(running)} of {total}: {line(result)}; about {left / 60:.0f} min left")
        except BaseException:
            stop.set()
            raise
    if failed:
        raise CellsFailed(f"{failed} of {total} runs failed; run the study again to try them once more")


def line(result: Result) -> str:
    """A result in a line."""
    said = ", ".join(f"{key} {value}" for key, value in result.settings.items())
    if result.status == "failed":
        return f"{said}, seed {result.seed}: failed: {result.reason}"
    outcome = "diverged" if result.status == "diverged" else f"error {100 * result.error:.2f} %"
    return f"{said}, seed {result.seed}: {outcome}, {result.seconds:.0f} s"


def run_job(job: Job, folder: Path, *, recipe: str, data: str, threads: int, stop: Event) -> Result:
    """Train one run to its end, and give what it recorded. Its folder is removed. stop: ends it early, as failed."""
    run = folder / job.id
    shutil.rmtree(run, ignore_errors=True)
    run.parent.mkdir(parents=True, exist_ok=True)
    command = [console_script(), "train", "--framework", job.cell.framework, "--recipe", recipe, "--data", data]
    command += ["--accumulate", str(job.virtual_workers), "--seed", str(job.seed), "--run-dir", str(run)]
    command += ["--keep-checkpoints", "1", "--data-threads", "1", "--efficiency-every", "0"]
    command += [part for override in job.cell.overrides for part in ("--set", override)]
    start = time.monotonic()
    with subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        said = _read_until(process, stop)
    result = _result(job, run, process.returncode, said, time.monotonic() - start)
    shutil.rmtree(run, ignore_errors=True)
    return result


def _read_until(process: subprocess.Popen[str], stop: Event) -> list[str]:
    """What the process says until it ends, or is ended because of `stop`."""
    while True:
        try:
            said, _ = process.communicate(timeout=0.5)
            return [line for line in said.splitlines() if line.strip()]
        except subprocess.TimeoutExpired:
            if stop.is_set():
                process.kill()


def _result(job: Job, run: Path, code: int, said: Sequence[str], seconds: float) -> Result:
    settings = {key: value for key, value in job.cell.settings}
    if code not in (0, NotFinite.exit_code):
        reason = f"exit code {code}: {' / '.join(said[-KEPT_LINES:])}"
        return Result(id=job.id, settings=settings, seed=job.seed, status="failed", errors=(), losses=(), iterations=0,
                      seconds=seconds, reason=reason)  # fmt: skip
    metrics, schedule = read_metrics(run), read_run(run)["schedule"]
    per_epoch = schedule["iterations_per_epoch"]
    losses: dict[int, list[float]] = {}
    for one in metrics:
        if one["kind"] == "step" and one["loss"] is not None:  # None is what no finite number can say
            losses.setdefault(one["step"] // per_epoch, []).append(one["loss"])
    return Result(
        id=job.id,
        settings=settings,
        seed=job.seed,
        status="diverged" if code else "done",
        errors=tuple(round(one["top1_error"], DIGITS) for one in metrics if one["kind"] == "eval"),
        losses=tuple(round(fmean(of), DIGITS) for of in losses.values()),
        iterations=schedule["total_iterations"],
        seconds=round(seconds, 1),
    )
