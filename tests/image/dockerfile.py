"""A Dockerfile read into stages of instructions: the part of the language that this project's file uses."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


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
    """What FROM begins. base: an image, or another stage's name; `${NAME}` in it is not replaced yet."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)


def parse(text: str) -> tuple[dict[str, str], list[Stage]]:
    """The arguments before the first stage with their defaults, and the stages in order."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for instruction in instructions(text):
        if instruction.keyword == "FROM":
            base, _, name = instruction.arguments.partition(" AS ")
            stages.append(Stage(name or str(len(stages)), base))
        elif stages:
            stages[-1].instructions.append(instruction)
        else:
            arguments |= instruction.pairs
    return arguments, stages


def instructions(text: str) -> Iterator[Instruction]:
    without_comments = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for line in re.sub(r"\\\n\s*", "", without_comments).splitlines():
        if line:
            keyword, flags, arguments = re.fullmatch(r"([A-Z]+) ((?:--\S+ )*)(.+)", line).groups()
            yield Instruction(keyword, dict(flag[2:].split("=", 1) for flag in flags.split()), arguments)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`text` with $NAME and ${NAME} replaced; a name that has no value is empty."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda match: variables.get(match[1] or match[2], ""), text)


def ignored(path: str, patterns: list[str]) -> bool:
    """Whether .dockerignore's patterns leave `path` out. The last that matches it, or a folder it is in, decides."""
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    left_out = False
    for pattern in patterns:
        if any(re.fullmatch(_expression(pattern.removeprefix("!")), name) for name in above):
            left_out = not pattern.startswith("!")
    return left_out


def _expression(pattern: str) -> str:
    return "".join({"**/": "(?:.*/)?", "*": "[^/]*"}.get(piece, re.escape(piece)) for piece in re.split(r"(\*\*/|\*)", pattern))
