"""docs/troubleshooting.md quotes lbsgd: every message there is one that it gives, every command one that it takes."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from lbsgd import errors
from lbsgd.cli import cli
from lbsgd.commands.doctor import text
from lbsgd.data.source import UnreadableSample
from lbsgd.doctor import clock, examination, meeting
from lbsgd.doctor.finding import Finding
from lbsgd.doctor.gather import Answer
from lbsgd.doctor.gather import judge as judge_answers
from lbsgd.launch import mpirun
from lbsgd.launch.horovod import installed
from lbsgd.launch.hosts import find_allocation, require
from lbsgd.policy.plan import make_plan
from lbsgd.policy.recipe import load_recipe
from lbsgd.ranks.agreement import require_agreement
from lbsgd.ranks.world import World

from .doctor_samples import request, sound_hosts
from .test_doctor_judgement import FAULTS, STARTED, WARNINGS

PAGE = (Path(__file__).parents[1] / "docs/troubleshooting.md").read_text()
LINES = [line for block in re.findall(r"^```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) for line in block.splitlines()]
COMMANDS = [line for line in LINES if re.match(r"(lbsgd|horovodrun) ", line)]
MESSAGES = [line for line in LINES if line not in COMMANDS]


def first_line(finding: Finding) -> str:
    return click.unstyle(text(finding, [finding.host] if finding.host else [])).splitlines()[0]


def doctor_lines() -> set[str]:
    """What the doctor says of every fault that its tests plant, and of hosts and ranks that do not answer."""
    findings = []
    for change, changes, _ in (*((change, {}, "") for change, _ in FAULTS.values()), *WARNINGS.values()):
        hosts = sound_hosts(2)
        change(hosts)
        findings += examination.judge(hosts, request(2, **changes))
    findings += examination.judge(one_ib0(), request(2, interface="ib0"))
    findings += examination.judge(less_data(), request(2))
    findings += examination.judge(little_room(), request(2))
    failed = [Answer("node2", "ssh", code=255, errors="Host key verification failed."), Answer("node2", "ssh", code=127)]
    findings += judge_answers(failed, 60)
    findings += clock.judge({"node1": (0.0, 0.0), "node2": (3600.0, 3601.0)})
    for events, code in (([{"event": "met", "size": 1}] * 2, 0), (STARTED, None)):
        findings.append(meeting.judge_world(meeting.Trial("MPI", events, code, ""), request(1, np=2)))
    return {first_line(finding) for finding in findings}


def less_data() -> dict:
    hosts = sound_hosts(2)
    hosts["node2"]["data"]["validation"] = {"samples": 49999, "digest": "c"}
    return hosts


def little_room() -> dict:
    hosts = sound_hosts(2)
    hosts["node1"]["storage"]["free"] = 1 << 30
    return hosts


def one_ib0() -> dict:
    hosts = sound_hosts(2)
    hosts["node1"]["network"]["interfaces"]["ib0"] = {"addresses": ["10.1.0.1/24"], "mtu": 9000}
    return hosts


def raised(action, *arguments) -> str:
    with pytest.raises(errors.LbsgdError) as error:
        action(*arguments)
    return f"Error: {error.value}"


def error_lines(monkeypatch) -> set[str]:
    """What commands say as they leave."""
    others = [(f"node{1 + rank // 8}", {"versions.torch": "2.12.0" if rank == 8 else "2.13.0"}) for rank in range(9)]
    world = World(0, 9, 0, 8, SimpleNamespace(allgather=lambda own: others), [])
    monkeypatch.setattr(installed, "horovod_distribution", lambda: None)
    unreadable = UnreadableSample("train/n01440764/x.JPEG", "image file is truncated")
    return {
        raised(require_agreement, world, {"versions.torch": "2.13.0"}),
        raised(installed.require_horovod, next(iter(installed.installed_frameworks()))),
        raised(require, find_allocation({}, hosts="node1:4,node2:4"), 16),
        f"Error: rank 5 on node2: {unreadable}",
    }


def warnings() -> set[str]:
    """What `lbsgd plan` warns of."""
    plans = ((512, []), (8, ["batch_per_worker=64"]))
    return {
        warning
        for workers, changes in plans
        for warning in make_plan(load_recipe("goyal2017", changes), world_size=workers, samples=1281167, classes=1000).warnings
    }


def test_every_message_of_the_page_is_given(monkeypatch, lbsgd):
    monkeypatch.setattr(mpirun, "console_script", lambda: "/opt/lbsgd/bin/lbsgd")
    monkeypatch.setattr("lbsgd.doctor.gather.console_script", mpirun.console_script)
    alone = lbsgd("eval", "runs/none", "--data", "synthetic", "--framework", "torch", env={"PMI_SIZE": "2"})
    given = {*doctor_lines(), *error_lines(monkeypatch), *warnings(), *alone.errors}
    assert [line for line in MESSAGES if line not in given] == []
    assert len(MESSAGES) > 25


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_page_is_taken(line):
    words = shlex.split(line)
    words = words[words.index("lbsgd") + 1 :]
    words = [word if word != "hosts.txt" else __file__ for word in words]
    command, parent = cli, None
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        parent = click.Context(command, parent=parent)
        _, command, words = command.resolve_command(parent, words)
    command.make_context("lbsgd", words, parent=parent)
