"""Carrying out a Dockerfile, stage by stage, each in a folder that starts as a copy of its base."""

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from .dockerfile import Instruction, Stage, expand, ignored, parse
from .host_settings import package_settings
from .image import Image


@dataclass
class Build:
    """A Dockerfile being carried out.

    context: the folder that it is in and that COPY takes from. given: build arguments. folder: gets a folder for each stage.
    base: makes the root of an image, by its name. cache: what `--mount=type=cache` mounts. say: takes a line of progress.
    """

    context: Path
    given: Mapping[str, str]
    folder: Path
    base: Callable[[str, Path], None]
    cache: Path
    say: Callable[[str], None]
    built: dict[str, Image] = field(default_factory=dict)

    def __post_init__(self) -> None:
        defaults, stages = parse((self.context / "Dockerfile").read_text())
        self.arguments = {name: self.given.get(name, value) for name, value in defaults.items()}
        self.stages = {stage.name: stage for stage in stages}
        lines = (self.context / ".dockerignore").read_text().splitlines()
        self.patterns = [line for line in lines if line and not line.startswith("#")]

    def last(self) -> Image:
        """The image of the last stage."""
        return self.stage(list(self.stages)[-1])

    def stage(self, name: str) -> Image:
        """The image of a stage, built when it is first asked for."""
        if name not in self.built:
            self.built[name] = self._carry_out(self.stages[name])
        return self.built[name]

    def _carry_out(self, stage: Stage) -> Image:
        image = self._begin(expand(stage.base, self.arguments), self.folder / stage.name)
        arguments: dict[str, str] = {}
        for step in stage.instructions:
            self.say(f"{stage.name}: {step.keyword} {step.arguments}")
            if step.keyword != "RUN":  # there the shell does it
                step = replace(step, arguments=expand(step.arguments, image.environment | arguments))
            image = self._step(step, image, arguments)
        return image

    def _begin(self, base: str, root: Path) -> Image:
        if base not in self.stages:
            self.say(f"{root.name}: FROM {base}")
            self.base(base, root)
            return Image(root)
        before = self.stage(base)
        subprocess.run(["cp", "--archive", "--reflink=auto", before.root, root], check=True)
        return replace(before, root=root)

    def _step(self, step: Instruction, image: Image, arguments: dict[str, str]) -> Image:
        """The image after a step. arguments: those of the stage; ARG adds to them."""
        match step.keyword:
            case "ARG":
                [(name, default)] = step.pairs.items()
                arguments[name] = self.given.get(name, default or self.arguments.get(name, ""))
            case "RUN":
                self._run(step, image, arguments)
            case "COPY":
                self._copy(step, image)
            case "ENV":
                return replace(image, environment=image.environment | step.pairs)
            case "WORKDIR":
                _inside(image, step.arguments).mkdir(parents=True, exist_ok=True)
                return replace(image, folder=step.arguments)
            case "USER":
                return replace(image, user=step.arguments)
            case "CMD":
                return replace(image, default_command=tuple(json.loads(step.arguments)))
            case "LABEL" | "EXPOSE":
                pass
            case _:
                raise NotImplementedError(step.keyword)
        return image

    def _run(self, step: Instruction, image: Image, arguments: Mapping[str, str]) -> None:
        variables, mounts = package_settings()
        mounts |= {Path("/etc/resolv.conf"): "/etc/resolv.conf"}
        if mount := step.flags.get("mount"):
            mounts[self.cache] = dict(part.split("=") for part in mount.split(","))["target"]
        shell = image.command("/bin/sh", "-c", step.arguments, environment=variables | arguments, mounts=mounts, drop=False)
        subprocess.run(shell, check=True, stdin=subprocess.DEVNULL)

    def _copy(self, step: Instruction, image: Image) -> None:
        *sources, target = step.words
        destination = _inside(image, target)
        for source in sources:
            if origin := step.flags.get("from"):
                copied = _inside(self.stage(origin), source)
                subprocess.run(["cp", "--archive", "--no-target-directory", copied, destination], check=True)
            elif (self.context / source).is_dir():
                shutil.copytree(self.context / source, destination, ignore=self._left_out, dirs_exist_ok=True)
            else:
                self._copy_file(source, destination / Path(source).name if target.endswith("/") else destination)

    def _copy_file(self, source: str, destination: Path) -> None:
        if ignored(source, self.patterns):
            raise FileNotFoundError(f"COPY {source}: .dockerignore leaves it out")
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.context / source, destination)

    def _left_out(self, folder: str, names: list[str]) -> list[str]:
        within = Path(folder).relative_to(self.context)
        return [name for name in names if ignored(str(within / name), self.patterns)]


def _inside(image: Image, path: str) -> Path:
    """Where a path of the image lies; a relative one is in its working folder."""
    return image.root / (Path(image.folder) / path).relative_to("/")
