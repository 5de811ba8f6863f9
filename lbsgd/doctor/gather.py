"""Ask all hosts at once for their facts, over the connection that mpirun starts ranks by.

A host that cannot be reached, has no lbsgd, or does not answer in time is a finding; the others go on.
"""

import json
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import psutil

from lbsgd.doctor.clock import Offset
from lbsgd.doctor.facts import SECTIONS
from lbsgd.doctor.finding import Finding, ok, problem
from lbsgd.doctor.request import Question
from lbsgd.launch.hosts import THIS_HOST
from lbsgd.launch.mpirun import console_script

SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10")
SSH_FAILED = 255
NOT_FOUND = (126, 127)
"""sh's exit codes for a program that it may not run, or that is not there."""


@dataclass
class Answer:
    """What came from a host. sections: facts by name. code: None when it was cut off at the time limit."""

    host: str
    through: str
    sections: dict[str, Any] = field(default_factory=dict)
    offset: Offset | None = None
    code: int | None = None
    errors: str = ""

    @property
    def last_error(self) -> str:
        """What it says of itself last: ssh's or a traceback's reason."""
        lines = [line.strip() for line in self.errors.splitlines() if line.strip()]
        return lines[-1].removeprefix("Error: ") if lines else f"exit code {self.code} without a message"


def ask(hosts: Iterable[str], question: Question, timeout: float) -> list[Answer]:
    """Every host's answer, in their order, after `timeout` seconds at most."""
    hosts = list(hosts)
    with ThreadPoolExecutor(len(hosts)) as pool:
        return list(pool.map(lambda host: _ask(host, replace(question, peers=_others(hosts, host)), timeout), hosts))


def _others(hosts: list[str], host: str) -> tuple[str, ...]:
    return tuple(other for other in hosts if other != host)


def _ask(host: str, question: Question, timeout: float) -> Answer:
    command = [console_script(), "doctor", "facts", *question.arguments()]
    through, argv = connection(host, os.environ)
    answer = Answer(host, through)
    begin = time.time()
    whole = [*argv, shlex.join(command)] if argv else command
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(whole, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            timer = threading.Timer(timeout, process.kill)
            timer.start()
            for line in process.stdout or ():
                _take(answer, line, begin)
            in_time = timer.is_alive()
            timer.cancel()
        errors.seek(0)
        answer.errors = errors.read()
    answer.code = process.returncode if in_time else None
    return answer


def _take(answer: Answer, line: str, begin: float) -> None:
    """Note a section; lines of others, such as a login script's, are skipped."""
    if not line.startswith("{"):
        return
    [(name, facts)] = json.loads(line).items()
    if name == "clock":
        answer.offset = (facts - time.time(), facts - begin)
    else:
        answer.sections[name] = facts


def connection(host: str, environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """How mpirun gets to a host, and the command before what is to run there; none for this host."""
    if is_here(host):
        return "here", []
    if "SLURM_JOB_ID" in environment and shutil.which("srun"):
        alone = ["--nodes=1", "--ntasks=1", "--overlap", f"--nodelist={host}"]
        return "srun", ["srun", *alone, "sh", "-c"]
    given = shlex.split(environment.get("OMPI_MCA_plm_rsh_args", ""))
    return "ssh", ["ssh", *SSH_OPTIONS, *given, host]


def is_here(host: str) -> bool:
    """Whether a name means this host."""
    if host in (THIS_HOST, socket.gethostname()):
        return True
    try:
        addresses = {found[4][0] for found in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    own = {one.address for addresses_of in psutil.net_if_addrs().values() for one in addresses_of}
    return bool(addresses & own)


def judge(answers: list[Answer], timeout: float) -> Iterator[Finding]:
    """Whether every host was reached, has lbsgd, and told all."""
    unreached = [answer for answer in answers if not answer.sections]
    yield from (_unreached(answer, timeout) for answer in unreached)
    away = {answer.through for answer in answers if answer.through != "here"}
    if not unreached:
        yield ok("reach", f"{' and '.join(away)} to {len(answers)} hosts without a question" if away else "this host")
        yield ok("lbsgd", console_script())
    for answer in answers:
        missing = [name for name in SECTIONS if name not in answer.sections]
        if missing and answer.sections:
            yield _incomplete(answer, missing[0], timeout)


def _unreached(answer: Answer, timeout: float) -> Finding:
    if answer.code is None:
        return problem(
            "reach",
            answer.host,
            f"no answer within {timeout:.0f} s",
            why="mpirun starts ranks the same way, and would hang",
            advice=f"is the host up, and not blocked by a firewall? try: ssh {answer.host} {console_script()} --version",
        )
    if answer.code == SSH_FAILED:
        return problem(
            "reach",
            answer.host,
            f"ssh fails: {answer.last_error}",
            why="mpirun starts ranks over ssh, with nobody there to type a password",
            advice=f"make `ssh -o BatchMode=yes {answer.host} true` work: a key in authorized_keys, the host in known_hosts",
        )
    what = f"no {console_script()}" if answer.code in NOT_FOUND else f"`lbsgd doctor facts` fails: {answer.last_error}"
    return problem(
        "lbsgd",
        answer.host,
        what,
        why="ranks are started by the same path on every host",
        advice=f"install lbsgd there at the same place and in the same version, or share {console_script()} by a file system",
    )


def _incomplete(answer: Answer, section: str, timeout: float) -> Finding:
    if answer.code is None:
        found = f"it did not report {section} within {timeout:.0f} s"
    else:
        found = f"it could not report {section}: {answer.last_error}"
    return problem(
        section,
        answer.host,
        found,
        why="what hangs or fails here does so in a run as well",
        advice="look at that host: a file system that hangs, a driver that does not answer? A first look at a large data set "
        "takes longer: give more time with --timeout, or index it with `lbsgd data index`",
    )
