"""Which MPI starts the ranks and which one they speak: they must be one, or every rank is a world of its own."""

import os
from collections.abc import Iterator
from typing import Any

from lbsgd.doctor.finding import Finding, ok, problem, told, warning
from lbsgd.doctor.request import Question, Request
from lbsgd.errors import OPEN_MPI
from lbsgd.launch.horovod.toolchain import output_of, recognize_mpi
from lbsgd.ranks.world import prepare_environment

INSTALL = f"load the cluster's MPI module, or pip install {OPEN_MPI} into the environment"


def look(question: Question) -> dict[str, Any]:
    """The mpirun that starts the ranks, as it is on this host, and the library that mpi4py loads. MPI is not started."""
    launcher = None
    if question.mpirun is not None and os.access(question.mpirun, os.X_OK):
        launcher = " ".join(recognize_mpi(output_of(question.mpirun, "--version")) or ("unknown",))
    return {"mpirun": question.mpirun, "launcher": launcher, **_library()}


def _library() -> dict[str, str | None]:
    prepare_environment()
    try:
        import mpi4py

        mpi4py.rc.initialize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        return {"library": None, "error": str(error)}
    return {"library": " ".join(recognize_mpi(MPI.Get_library_version()) or ("unknown",)), "error": None}


def judge(facts: dict[str, dict], request: Request) -> Iterator[Finding]:
    """Whether every host has mpirun and an MPI of the same kind for its ranks."""
    found = [] if request.launched else [finding for host, fact in facts.items() for finding in _judge_launcher(host, fact)]
    found += [_no_library(host, fact["error"]) for host, fact in facts.items() if fact["library"] is None]
    libraries = {host: fact["library"] for host, fact in facts.items()}
    if not found and len(set(libraries.values())) > 1:
        found = [_other_library(libraries)]
    first = next(iter(facts.values()))
    launcher = "" if request.launched else f", and {first['mpirun']} is of it"
    yield from found or [ok("mpi", f"mpi4py's library is {first['library']}{launcher}")]


def _judge_launcher(host: str, fact: dict) -> Iterator[Finding]:
    if fact["mpirun"] is None:
        yield problem("mpi", host, "no mpirun on PATH", why="it starts the ranks", advice=INSTALL)
    elif fact["launcher"] is None:
        yield problem(
            "mpi",
            host,
            f"no {fact['mpirun']}",
            why="mpirun starts its helpers on every host from the folder that it was started from itself",
            advice=f"install the same MPI at the same place on {host}",
        )
    elif fact["library"] not in (None, fact["launcher"]):
        yield (warning if _family(fact["launcher"]) == _family(fact["library"]) else problem)(
            "mpi",
            host,
            f"{fact['mpirun']} is of {fact['launcher']}, but mpi4py's library is of {fact['library']}",
            why="ranks started by another MPI do not find each other: each is a run of one worker",
            advice="put the library's own mpirun first on PATH, or `lbsgd horovod build` and mpi4py for this one",
        )


def _no_library(host: str, error: str) -> Finding:
    return problem(
        "mpi",
        host,
        f"mpi4py cannot load an MPI library: {error}",
        why="ranks meet through it",
        advice=f"pip install 'lbsgd[mpi]', and {OPEN_MPI} where no MPI is installed",
    )


def _other_library(libraries: dict[str, str]) -> Finding:
    return problem(
        "mpi",
        None,
        f"the library of mpi4py is {told(libraries)}",
        why="ranks of different MPIs cannot talk to each other",
        advice="install the same MPI on all hosts",
    )


def _family(name_and_version: str) -> str:
    return name_and_version.rpartition(" ")[0]
