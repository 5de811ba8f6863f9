"""Ranks started for real: whether as many meet as were asked for, and whether the sums that they make are right.

A world that is silently of size 1 is the commonest trap of all: N runs of one worker each, which look like one run of N.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lbsgd.doctor.finding import Finding, names, ok, problem, skipped, warning
from lbsgd.doctor.request import Request
from lbsgd.launch import mpirun
from lbsgd.launch.horovod.verify import run_bounded
from lbsgd.launch.job import Job
from lbsgd.launch.mpi_flavour import find_flavour

MIB = 1 << 20
CONNECTION_ADVICE = (
    "name the interface that joins the hosts with --interface, and let all TCP ports between them through the firewall"
)
WHY_ALONE = "each would train by itself, at the learning rate and with the record of a run of its own"


@dataclass(frozen=True)
class Trial:
    """What became of ranks that were started. events: what they told. code: None when they were ended at the time limit."""

    through: str
    events: list[dict[str, Any]]
    code: int | None
    errors: str

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]


def start(request: Request, framework: str | None) -> Trial:
    """Start all ranks for sums by MPI, or by Horovod with `framework`, and wait for their end or the time limit.

    Raises EnvironmentNotReady when mpirun is missing or of an unknown kind.
    """
    command = [mpirun.console_script(), "doctor", "rank", *([f"--framework={framework}"] if framework else [])]
    job = Job(
        np=request.np,
        command=tuple(command),
        hosts=request.allocation.hosts(request.np),
        interface=request.interface,
        oversubscribe=True,
        flavour=find_flavour(),
    )
    argv = mpirun.render(job, os.environ, mpirun.remote_prefix())
    output, errors, code = run_bounded(argv, request.timeout)
    return Trial(way(framework), list(events(output)), code, errors)


def way(framework: str | None) -> str:
    """What sums, in words."""
    return f"Horovod with {framework}" if framework else "MPI"


def events(output: str) -> Iterator[dict[str, Any]]:
    """What the ranks told; lines of others are skipped."""
    for line in output.splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict) and "event" in told:
            yield told


def judge_world(trial: Trial, request: Request) -> Finding:
    """Whether the world has the size that was asked for."""
    sizes = [event["size"] for event in (*trial.of("met"), *trial.of("alone")) if event["size"] is not None]
    if not sizes:
        return _no_meeting(trial, request)
    if sizes[0] == request.np:
        return ok("world size", f"asked {request.np}, MPI saw {request.np}")
    alone = f": {len(sizes)} runs of one rank each" if sizes[0] == 1 else ""
    return problem(
        "world size",
        None,
        f"asked {request.np}, MPI saw {sizes[0]}{alone}",
        why=WHY_ALONE,
        advice="start ranks with the mpirun of the MPI that mpi4py is built for, horovodrun --mpi, or srun --mpi=pmix",
    )


def _no_meeting(trial: Trial, request: Request) -> Finding:
    started = Counter(event["host"] for event in trial.of("started"))
    found = f"asked {request.np}, started {started.total()}{_where(started)}, met none"
    if trial.code is None:
        return problem(
            "world size",
            None,
            f"{found} within {request.timeout:.0f} s",
            why=f"the ranks cannot talk to each other{_over(request)}: a run would hang",
            advice=CONNECTION_ADVICE,
        )
    return problem(
        "world size",
        None,
        f"{found}: {cause(trial)}",
        why="a run would not start either",
        advice="fix what the other checks report first; then read mpirun's whole output with `lbsgd bench allreduce`",
    )


def _where(started: Counter) -> str:
    return f" on {names(list(started))}" if started else ""


def _over(request: Request) -> str:
    return f" over {request.interface}" if request.interface else ""


def judge_sum(trial: Trial, request: Request) -> Finding:
    """Whether the sum over all ranks is right."""
    check = f"allreduce ({trial.through})"
    summed = trial.of("summed")
    if not summed:
        found = f"no sum within {request.timeout:.0f} s" if trial.code is None else f"it failed: {cause(trial)}"
        return problem(
            check,
            None,
            found,
            why=f"gradients are averaged like this{_over(request)} at every step",
            advice=CONNECTION_ADVICE
            if trial.code is None
            else "look at the message; `lbsgd horovod check` tries Horovod alone",
        )
    told = summed[0]
    if told["wrong"]:
        return problem(
            check,
            None,
            f"{told['wrong']:,} elements are not the sum",
            why="MPI, Horovod, the network or a host's memory is broken: gradients would be wrong",
            advice="do not train on these hosts; leave out one at a time to find it",
        )
    took = f"{told['bytes'] / MIB:.0f} MiB over {request.np} ranks in {1e3 * told['seconds']:,.1f} ms on {told['device']}"
    return ok(check, f"{took}, every element exact")


def judge_device(trial: Trial, gpus: int) -> Iterator[Finding]:
    """Whether Horovod's tensors are where the GPUs are."""
    on_cpu = [event for event in trial.of("summed") if event["device"] == "cpu"]
    if gpus and on_cpu and trial.through != "MPI":
        yield warning(
            "gpus",
            None,
            f"{trial.through} sums on the CPU, though there are GPUs",
            why="training computes where the framework finds its device",
            advice="install the framework's GPU build and `lbsgd horovod build --operations nccl`",
        )


def cause(trial: Trial) -> str:
    """What a rank told, else the line of the ranks' and mpirun's error output that says most."""
    told = [event["error"] for event in trial.of("alone")]
    lines = [line.strip() for line in trial.errors.splitlines() if line.strip(" -=\t")]
    telling = [line for line in lines if "Error" in line]
    return (told or telling or lines or [f"exit code {trial.code} without a message"])[0].removeprefix("Error: ")


def not_tried(reason: str) -> list[Finding]:
    return [skipped("world size", reason), skipped("allreduce (MPI)", reason)]


def alone(error: str) -> Finding:
    """The world size that a rank found by itself to be another than its launcher's. error: what `connect` says of it."""
    what, _, advice = error.partition("; ")
    return problem("world size", None, what, why=WHY_ALONE, advice=advice)
