"""The state of Horovod here, for `lbsgd horovod check`: its version, what it was built for, what works."""

import shutil
from collections.abc import Callable
from typing import Any

from lbsgd.errors import EnvironmentNotReady
from lbsgd.launch.horovod.installed import InstalledHorovod, inspect_horovod, installed_frameworks
from lbsgd.launch.horovod.toolchain import output_of, recognize_mpi

FEATURES = {"mpi": "MPI", "gloo": "Gloo", "nccl": "NCCL", "cuda": "CUDA"}


def examine(verify: Callable[[str], dict], only: tuple[str, ...] = ()) -> dict[str, Any]:
    """All that `check` knows, as JSON values; `problems` is empty when this environment is ready.

    verify: reduces tensors with a framework and reports, or raises EnvironmentNotReady.
    only: the frameworks that matter; empty means all that are installed.
    """
    horovod = inspect_horovod()
    frameworks = {name: v for name, v in installed_frameworks().items() if not only or name in only}
    problems = static_problems(horovod, frameworks)
    reports: dict[str, dict] = {}
    for name in frameworks:
        if horovod and name in horovod.built_for:
            try:
                reports[name] = verify(name)
            except EnvironmentNotReady as error:
                problems.append(str(error))
    return {
        "ready": not problems,
        "horovod": horovod and describe(horovod),
        "mpirun": mpirun_version(),
        "frameworks": {
            name: {
                "installed": version,
                "built_for": horovod and horovod.built_for.get(name),
                "allreduce": reports.get(name),
            }
            for name, version in frameworks.items()
        },
        "problems": problems,
    }


def static_problems(horovod: InstalledHorovod | None, frameworks: dict[str, str]) -> list[str]:
    """What is wrong before anything is run."""
    if not frameworks:
        return ["no framework is installed; pip install 'lbsgd[torch]' or 'lbsgd[tensorflow]'"]
    if horovod is None:
        return ["Horovod is not installed; run `lbsgd horovod build`"]
    return [f"{sentence}; run `lbsgd horovod build`" for sentence in horovod.mismatches(frameworks)]


def describe(horovod: InstalledHorovod) -> dict[str, object]:
    """An installed Horovod. `build` is None unless lbsgd built it."""
    return {"version": horovod.version, "built_by": horovod.built_by, "build": horovod.build}


def mpirun_version() -> str | None:
    """Name and version of the mpirun first on PATH."""
    path = shutil.which("mpirun")
    found = recognize_mpi(output_of(path, "--version")) if path else None
    return " ".join(found) if found else path


def report_lines(report: dict) -> list[str]:
    """The report for a reader."""
    horovod = report["horovod"]
    lines = [f"horovod     {horovod['version']}, built by {horovod['built_by']}" if horovod else "horovod     not installed"]
    if horovod and horovod["build"]:
        lines.append(f"built with  {' '.join(horovod['build']['mpi'][:2])}, {horovod['build']['compiler'][0]}")
    lines.append(f"mpirun      {report['mpirun'] or 'not on PATH'}")
    for name, facts in report["frameworks"].items():
        lines.append(f"{name:<10}  {facts['installed']}, {framework_state(facts)}")
    return lines


def framework_state(facts: dict) -> str:
    """What Horovod can do for one framework."""
    if facts["built_for"] is None:
        return "there is no Horovod for it"
    if facts["allreduce"] is None:
        return f"Horovod was built for {facts['built_for']}, allreduce failed"
    able = [title for name, title in FEATURES.items() if facts["allreduce"][name]]
    built = f"Horovod was built for {facts['built_for']} with {', '.join(able)}"
    return f"{built}; allreduce on {facts['allreduce']['device']} is exact"
