"""The commands that docs/docker.md and compose.yaml tell a container to run."""

import shlex
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
WITH_VALUE = ("-v", "--user", "--name", "--network", "--gpus", "--ulimit")
"""The options of `docker run` in the page whose value is a word of its own."""


def lines(start: str) -> list[str]:
    """The page's commands that begin so."""
    blocks = (ROOT / "docs" / "docker.md").read_text().split("```text\n")[1:]
    commands = [line for block in blocks for line in block.split("```")[0].splitlines()]
    return [line for line in commands if line.startswith(start)]


def docker_runs() -> list[tuple[str, list[str]]]:
    """Image and command of each `docker run`."""
    return [_split_run(shlex.split(line)[2:]) for line in lines("docker run ")]


def _split_run(words: list[str]) -> tuple[str, list[str]]:
    while words[0].startswith("-"):
        words = words[2 if words[0] in WITH_VALUE else 1 :]
    return words[0], words[1:]


def launches() -> list[list[str]]:
    """What `docker compose run` starts in the launcher."""
    return [shlex.split(line)[5:] for line in lines("docker compose run --rm launcher ")]


def services() -> dict[str, dict]:
    """The services of compose.yaml."""
    return yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
