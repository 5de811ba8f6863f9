"""The Dockerfile as stages of instructions."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Instruction:
    """RUN --mount=type=cache,target=/c make: keyword RUN, flags {"mount": "type=cache,target=/c"}, arguments "make"."""

    keyword: str
    flags: dict[str, str]
    arguments: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.arguments)

    @property
    def pairs(self) -> dict[str, str]:
        """NAME=VALUE ..., as ENV and LABEL have them; the value of a bare NAME, as ARG may have it, is empty."""
        return {name: value for name, _, value in (word.partition("=") for word in self.words)}


@dataclass(frozen=True)
class Stage:
    """What FROM begins. base: an image, or another stage's name; `${NAME}` in it is not replaced."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)


def read_dockerfile() -> tuple[dict[str, str], list[Stage]]:
    """The arguments before the first stage with their defaults, and the stages in order."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for instruction in map(_instruction, DockerfileParser(str(ROOT)).structure):
        if instruction.keyword == "FROM":
            base, _, name = instruction.arguments.partition(" AS ")
            stages.append(Stage(name or str(len(stages)), base))
        elif instruction.keyword != "COMMENT" and stages:
            stages[-1].instructions.append(instruction)
        elif instruction.keyword == "ARG":
            arguments |= instruction.pairs
    return arguments, stages


def base_images() -> list[str]:
    """The images that stages begin with, arguments replaced by their defaults; the names of stages are not among them."""
    return list(dict.fromkeys(image for image in DockerfileParser(str(ROOT)).parent_images if ":" in image))


def _instruction(entry: dict[str, str]) -> Instruction:
    flags, arguments = re.fullmatch(r"((?:--\S+\s+)*)(.*)", entry["value"], re.DOTALL).groups()
    return Instruction(entry["instruction"], dict(flag[2:].split("=", 1) for flag in flags.split()), arguments)
