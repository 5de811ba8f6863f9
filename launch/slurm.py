"""Slurm: render a batch script that starts the ranks and goes on after a time limit or a preemption; submit it.

Slurm warns the script by SIGUSR2 some time before the limit; the ranks save their state, leave with exit code 143, and the
script has itself requeued. A preempted job is requeued by Slurm. Either way the script runs again and resumes the run.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lbsgd.errors import EnvironmentNotReady, UsageError
from lbsgd.launch.exported import exported_names
from lbsgd.launch.open_mpi import TCP_FLAGS
from lbsgd.launch.templating import render_template

# What the script needs beside the variables for ranks: what every program expects to find, and what mpirun reads itself.
SCRIPT_NAMES = ("HOME", "LANG", "LC_ALL", "LOGNAME", "SHELL", "USER")
SCRIPT_PREFIXES = ("OMPI_MCA_", "PRTE_MCA_", "HYDRA_")


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """An lbsgd command to run in an allocation of its own.

    program: the `lbsgd` of the nodes. command: what follows it. start: what starts its ranks; "none" where the command does so
    itself, as bench does. directives: sbatch's long options; a value of None makes a flag. setup: lines of bash that make the
    environment, in what is a login shell then. log_dir: for the job's log. run_dir: of a training run, by default named after
    the job. warning_seconds: how long before the time limit the ranks are told to save. restarts: how often to start again
    after a rank was lost or hung.
    """

    program: str
    command: tuple[str, ...]
    nodes: int
    tasks_per_node: int
    cpus_per_task: int | None = None
    start: Literal["mpirun", "srun", "none"] = "mpirun"
    interface: str | None = None
    directives: Mapping[str, str | None] = field(default_factory=dict)
    setup: tuple[str, ...] = ()
    log_dir: str = "runs"
    run_dir: str | None = None
    requeue: bool = True
    warning_seconds: int = 180
    restarts: int = 3


def render(job: BatchJob, environment: Mapping[str, str]) -> str:
    """The batch script of `job`. Pure: nothing is run and nothing but the arguments is read.

    environment: the variables at submission; those on the allow-list are handed on, by name.
    Raises UsageError when a directive cannot be written into a script.
    """
    directives = _directives(job, environment)
    return render_template(
        "slurm.sh.j2",
        directives=[_directive(name, value) for name, value in directives.items()],
        setup=job.setup,
        variables=_network(job, environment) if job.start == "srun" else {},
        command=_command(job),
        run_dir=_run_dir(job) if job.command[0] == "train" else None,
        start=job.start,
        requeue=job.requeue,
        restarts=job.restarts,
        log_dir=job.log_dir,
    )


def submit(script: str, *, test_only: bool = False) -> str:
    """Hand `script` to sbatch and return the job's number, or with `test_only` what Slurm says of when it would start.

    Raises EnvironmentNotReady when there is no sbatch or it refuses.
    """
    if shutil.which("sbatch") is None:
        raise EnvironmentNotReady("no sbatch on PATH; submit on a login node of the cluster, or see the script with --print")
    argv = ["sbatch", "--parsable", *(["--test-only"] if test_only else [])]
    done = subprocess.run(argv, input=script, capture_output=True, text=True)
    told = "; ".join(re.sub("^sbatch: (error: )?", "", line) for line in done.stderr.splitlines())
    if done.returncode != 0:
        raise EnvironmentNotReady(f"sbatch refuses: {told}; --print shows what was submitted")
    return told if test_only else done.stdout.strip().split(";")[0]


def _directives(job: BatchJob, environment: Mapping[str, str]) -> dict[str, str | None]:
    """sbatch's long options; sbatch(1). What is handed on of the environment comes by name: the values may be secrets."""
    own = [name for name in environment if name in SCRIPT_NAMES or name.startswith(SCRIPT_PREFIXES)]
    return {
        "nodes": str(job.nodes),
        "ntasks-per-node": str(job.tasks_per_node),
        **({"cpus-per-task": str(job.cpus_per_task)} if job.cpus_per_task else {}),
        **job.directives,
        "output": f"{_filename_pattern(job.log_dir)}/slurm-%j.log",
        "open-mode": "append",
        "export": ",".join(sorted([*own, *exported_names(environment)])),
        "signal": f"B:USR2@{job.warning_seconds}",
        "requeue" if job.requeue else "no-requeue": None,
    }


def _filename_pattern(path: str) -> str:
    """sbatch(1), "filename pattern": a backslash would switch off the symbols, and there is no other way to write one."""
    if "\\" in path:
        raise UsageError(f"--output {path!r}: Slurm takes no backslash in the name of a log; give another folder")
    return path.replace("%", "%%")


def _directive(name: str, value: str | None) -> str:
    """An option as sbatch reads it from a #SBATCH line: outside of quotes blanks and # end a word."""
    if value is None:
        return f"--{name}"
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise UsageError(f"--{name} {value!r} has a line break or control character, which no line of a batch script can hold")
    if re.search(r"[\s\\\"'#]", value):
        value = '"' + re.sub(r'([\\"])', r"\\\1", value) + '"'
    return f"--{name}={value}"


def _command(job: BatchJob) -> list[str]:
    program = [job.program, *job.command]
    if job.start == "srun":
        cpus = [f"--cpus-per-task={job.cpus_per_task}"] if job.cpus_per_task else []
        return ["srun", "--mpi=pmix", "--kill-on-bad-exit=1", *cpus, *program]
    if job.start == "mpirun":
        interface = ["--interface", job.interface] if job.interface else []
        np = job.nodes * job.tasks_per_node
        return [job.program, "launch", "mpirun", "--np", str(np), *interface, "--", *job.command]
    return program


def _network(job: BatchJob, environment: Mapping[str, str]) -> dict[str, str]:
    """For srun what `lbsgd launch mpirun` tells Open MPI and NCCL. What the environment says by itself stays."""
    name, value = TCP_FLAGS
    variables = {f"OMPI_MCA_{name}": value}
    if job.interface:
        variables |= {"OMPI_MCA_btl_tcp_if_include": job.interface, "NCCL_SOCKET_IFNAME": job.interface}
    return {name: value for name, value in variables.items() if name not in environment}


def _run_dir(job: BatchJob) -> str:
    """The run's folder as a word of bash."""
    return 'runs/slurm-"$SLURM_JOB_ID"' if job.run_dir is None else shlex.quote(job.run_dir)
