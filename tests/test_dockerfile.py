"""The image's files agree with each other, with the project and with docs/docker.md. `make image-check` builds the image."""

import configparser
import dataclasses
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

from lbsgd.cli import cli
from lbsgd.launch.kubernetes import SSH_SERVER, MpiJob

from .image.dockerfile import Instruction, Stage, read_dockerfile
from .image.documented import docker_runs, launches, lines, services

ROOT = Path(__file__).parents[1]
IMAGE = ROOT / "launch" / "image"
SCRIPTS = sorted(IMAGE.glob("*.sh"))
ARGUMENTS, STAGES = read_dockerfile()
FINAL = STAGES[-1]
PROGRAMS = Path(sys.executable).parent
KEY = "/home/lbsgd/.ssh/id_rsa"


def steps(keyword: str, stages: list[Stage] = STAGES) -> list[Instruction]:
    return [step for stage in stages for step in stage.instructions if step.keyword == keyword]


def copied_from_here() -> list[str]:
    return [source for step in steps("COPY") if "from" not in step.flags for source in step.words[:-1]]


def test_base_images_are_pinned():
    names = {stage.name for stage in STAGES}
    bases = [stage.base for stage in STAGES if stage.base not in names and not stage.base.startswith("${VARIANT}-")]
    assert len(bases) == 4
    assert all(re.fullmatch(r"[a-z/]+:(\d+\.\d+|\$\{CUDA\})-[a-z0-9.-]+", base) for base in bases), bases
    assert re.fullmatch(r"\d+\.\d+\.\d+", ARGUMENTS["CUDA"])


def test_both_variants_have_both_bases():
    assert {stage.name for stage in STAGES} >= {
        f"{variant}-{part}" for variant in ("cpu", "cuda") for part in ("build", "final")
    }
    assert FINAL.base == "${VARIANT}-final"


def test_the_image_runs_as_a_user_by_number():
    *_, user = steps("USER", [FINAL])
    number, group = user.arguments.split(":")
    assert number == group != "0"
    assert f"useradd --uid {number} " in (IMAGE / "add-user.sh").read_text()


def test_the_final_stage_gets_nothing_of_the_build_but_the_environment():
    assert [step.words for step in steps("COPY", [FINAL]) if step.flags] == [["/opt/lbsgd", "/opt/lbsgd"]]


@pytest.mark.parametrize("source", copied_from_here())
def test_what_is_copied_exists(source):
    assert (ROOT / source).exists()


def test_nothing_is_sent_to_the_builder_but_what_is_copied():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert (lines[0], lines[-1]) == ("*", "**/__pycache__")
    assert {line.removeprefix("!") for line in lines[1:-1]} == {source.split("/")[0] for source in copied_from_here()}


def test_hadolint_finds_nothing():
    done = subprocess.run([PROGRAMS / "hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_package_is_copied():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    mapped = [line.split("=")[1].strip() for line in setup["options"]["package_dir"].split("\n") if line]
    assert {"lbsgd", *mapped} <= set(copied_from_here())


@pytest.mark.parametrize("step", steps("RUN"), ids=lambda step: step.arguments)
def test_a_step_is_a_script_that_was_copied(step):
    path = step.arguments.replace("/image/", "launch/image/", 1) if step.arguments.startswith("/image/") else step.arguments
    assert ROOT / path in SCRIPTS
    assert any(path == source or path.startswith(f"{source}/") for source in copied_from_here())


def test_every_script_is_a_step():
    assert {Path(step.arguments).name for step in steps("RUN")} == {script.name for script in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_sound(script):
    subprocess.run([PROGRAMS / "shellcheck", script], check=True)
    text = script.read_text()
    assert text.startswith("#!/bin/bash\n#")
    assert "\nset -euo pipefail\n" in text
    assert script.stat().st_mode & stat.S_IXUSR
    if "apt-get install" in text:
        assert "--no-install-recommends" in text
        assert "rm -rf /var/lib/apt/lists/*" in text


def variants() -> set[tuple[str, str]]:
    """VARIANT and FRAMEWORKS of every image that install-lbsgd.sh makes."""
    return set(re.findall(r"^ +(cpu|cuda):([a-z,]+)\)", (IMAGE / "install-lbsgd.sh").read_text(), re.MULTILINE))


def test_the_page_lists_the_variants():
    [row] = re.findall(r"^\| `FRAMEWORKS` \|(.*?)\|", (ROOT / "docs" / "docker.md").read_text(), re.MULTILINE)
    listed = [(variant, names) for variant, names in re.findall(r"(\w+): (`.*?`)(?=;|$| *$)", row.strip())]
    assert {(variant, name) for variant, names in listed for name in re.findall(r"`(.*?)`", names)} == variants()


def test_the_extras_of_every_variant_exist():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    asked = re.findall(r"extras\+?=([a-z,-]+)", (IMAGE / "install-lbsgd.sh").read_text())
    assert {extra for group in asked for extra in group.strip(",").split(",")} <= set(setup["options.extras_require"])


@pytest.mark.parametrize("variant, frameworks", [("cuda", "torch,tensorflow"), ("cpu", "jax"), ("rocm", "torch"), ("", "")])
def test_other_variants_are_refused_with_what_there_is(variant, frameworks, tmp_path):
    environment = {"PATH": "/nowhere", "VARIANT": variant, "FRAMEWORKS": frameworks, "TORCH_INDEX": ""}
    command = [shutil.which("bash"), IMAGE / "install-lbsgd.sh"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"VARIANT={variant} FRAMEWORKS={frameworks}: give VARIANT=cpu with torch, tensorflow or")


def test_builds_of_the_page_are_variants():
    known = {name for step in steps("ARG") for name in step.pairs} | ARGUMENTS.keys()
    defaults = {name: value for step in steps("ARG") for name, value in step.pairs.items() if value} | ARGUMENTS
    builds = lines("docker build ")
    assert len(builds) == 3
    for line in builds:
        given = dict(word.split("=", 1) for word in shlex.split(line) if re.match(r"[A-Z_]+=", word))
        assert given.keys() <= known
        chosen = defaults | given
        assert (chosen["VARIANT"], chosen["FRAMEWORKS"]) in variants()


def sessions() -> dict[str, str]:
    """The environment of what is started through the image's ssh server."""
    [line] = re.findall(r"^SetEnv (.*)$", (IMAGE / "sshd_config").read_text(), re.MULTILINE)
    return dict(word.split("=", 1) for word in line.split())


def test_ranks_through_ssh_have_the_environment_of_the_image():
    [step] = steps("ENV", [FINAL])
    image, session = step.pairs, sessions()
    assert image.keys() == session.keys()
    assert session["PATH"].split(":")[0] == image["PATH"].split(":")[0] == "/opt/lbsgd/bin"
    assert {**image, "PATH": None} == {**session, "PATH": None}


def option(name: str, file: str) -> str:
    [value] = re.findall(rf"^\s*{name} (.*)$", (IMAGE / file).read_text(), re.MULTILINE)
    return value


def test_server_client_page_and_compose_have_one_port_and_one_key():
    [exposed] = steps("EXPOSE")
    assert option("Port", "sshd_config") == option("Port", "ssh_config") == exposed.arguments == "2222"
    assert option("HostKey", "sshd_config") == option("IdentityFile", "ssh_config") == KEY
    assert option("AuthorizedKeysFile", "sshd_config") == f"{KEY}.pub"
    page = (ROOT / "docs" / "docker.md").read_text()
    assert "The port is 2222" in page
    assert f"-f {KEY}\n" in page
    assert any(volume == f"keys:{Path(KEY).parent}" for volume in services()["launcher"]["volumes"])


def test_an_mpijob_knows_user_key_and_server():
    defaults = {field.name: field.default for field in dataclasses.fields(MpiJob)}
    [user] = steps("USER", [FINAL])
    assert user.arguments == f"{defaults['user']}:{defaults['user']}"
    assert str(Path(KEY).parent) == defaults["ssh_dir"]
    assert services()["worker1"]["command"] == SSH_SERVER


@pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh is not installed")
def test_ssh_takes_the_client_s_configuration():
    shown = subprocess.run(
        ["ssh", "-G", "-F", IMAGE / "ssh_config", "node1"], capture_output=True, text=True, check=True
    ).stdout
    assert {"port 2222", "user lbsgd", f"identityfile {KEY}", "batchmode yes"} <= set(shown.splitlines())
    assert "stricthostkeychecking false" not in shown


def test_compose_refers_to_what_there_is():
    assert set(services()) == {"keys", "worker1", "worker2", "launcher"}
    built = {lines("docker build ")[0].split()[3]}
    assert {service["image"] for service in services().values()} == built
    for name in ("worker1", "worker2"):
        assert services()[name]["hostname"] == name
        assert set(services()[name]["depends_on"]) == {"keys"}
    assert set(services()["launcher"]["depends_on"]) == {"worker1", "worker2"}


def documented() -> list[list[str]]:
    """The command lines of lbsgd in the page, without the word lbsgd, whatever starts them."""
    execs = [shlex.split(line)[3:] for line in lines("docker exec lbsgd ")]
    commands = [command for _, command in docker_runs()] + launches() + execs
    starts = [len(command) - command[::-1].index("lbsgd") for command in commands if "lbsgd" in command]
    return [command[start:] for command, start in zip((c for c in commands if "lbsgd" in c), starts, strict=True)]


@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_commands_of_the_page_are_understood(words):
    command, context = cli, click.Context(cli)
    if words == ["--version"]:
        return
    while isinstance(command, click.Group):
        name, *words = words
        command = command.get_command(context, name)
        assert command is not None, name
    command.make_context(command.name, list(words))


def test_images_of_the_page_are_built_there():
    built = {shlex.split(line)[3] for line in lines("docker build ")}
    assert {image for image, _ in docker_runs()} <= built
    assert all(launch[0] in ("lbsgd", "horovodrun", "mpirun") for launch in launches())
