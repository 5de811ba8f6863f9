"""A study's file: which runs are to be compared, in parts, each of which answers one question."""

import hashlib
import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lbsgd.errors import UsageError
from lbsgd.policy.recipe import Recipe, load_recipe

Value = str | int | float | bool

OWN_KEYS = ("framework", "global_batch")
"""What a cell says besides values of the recipe."""


class Section(BaseModel):
    """A table of the file: unknown keys are refused, no value is converted from another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Part(Section):
    """A question and the cells that answer it: the product of `axes`, and those of `cells`; `set` holds for all of them.

    reference: the settings of the cell that the others are compared with. lines: the key by which cells are put into lines of a
    figure, over the global batch or, with figure = "curves", over the epochs.
    """

    title: str
    source: str
    claim: str
    note: str = ""
    set: dict[str, Value] = {}
    axes: dict[str, list[Value]] = {}
    cells: list[dict[str, Value]] = []
    seeds: int | None = Field(None, ge=1)
    reference: dict[str, Value]
    figure: Literal["batch", "curves", "none"] = "none"
    lines: str | None = None


class Study(Section):
    """A whole study. seeds: of each cell, from 0 on. set: what all cells have. parts: by name, in the order of the page."""

    title: str
    introduction: str = ""
    recipe: str
    seeds: int = Field(5, ge=1)
    set: dict[str, Value] = {}
    parts: Annotated[dict[str, Part], Field(min_length=1)]


@dataclass(frozen=True)
class Cell:
    """One setting, whatever the seed: what it sets over the study's recipe, sorted by key."""

    settings: tuple[tuple[str, Value], ...]

    def __getitem__(self, key: str) -> Value | None:
        return dict(self.settings).get(key)

    @property
    def framework(self) -> str:
        return str(self["framework"] or "torch")

    @property
    def global_batch(self) -> int:
        return int(self["global_batch"] or 0)

    @property
    def overrides(self) -> list[str]:
        """As `--set` of `lbsgd train` takes them."""
        return [f"{key}={json.dumps(value)}" for key, value in self.settings if key not in OWN_KEYS]


@dataclass(frozen=True)
class Job:
    """A cell with a seed: one run. recipe: all of it, resolved."""

    cell: Cell
    seed: int
    recipe: Recipe

    @property
    def id(self) -> str:
        """The same for the same run, whatever part of whatever study it belongs to. A key that recipes get later, with a
        default that leaves all as it was, does not change it."""
        said = {
            "framework": self.cell.framework,
            "global_batch": self.cell.global_batch,
            "recipe": self.recipe.model_dump(mode="json", exclude={"name"}, exclude_defaults=True),
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def virtual_workers(self) -> int:
        return self.cell.global_batch // self.recipe.batch_per_worker


def read_study(file: Path) -> Study:
    """The study of a TOML file. Raises UsageError in one line for what is unreadable, unknown or out of range."""
    try:
        study = Study.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"study {file}: {getattr(error, 'strerror', None) or error}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise UsageError(f"study {file}: {problems}") from error
    jobs(study)  # refuses what no run could take
    return study


def cells_of(study: Study, part: Part) -> list[Cell]:
    """The cells of a part, each once, in the order of the file."""
    common = study.set | part.set
    product: Iterator[dict[str, Value]] = (
        dict(zip(part.axes, values, strict=True)) for values in itertools.product(*part.axes.values())
    )
    found = [*(product if part.axes else ()), *part.cells]
    return list(dict.fromkeys(cell_of(common | one) for one in found))


def cell_of(settings: Mapping[str, Value]) -> Cell:
    """A cell that sets these."""
    return Cell(tuple(sorted(settings.items())))


def reference_of(study: Study, part: Part) -> Cell:
    """The cell of a part that the others are compared with. Raises UsageError when it is none of them."""
    cells = cells_of(study, part)
    wanted = cell_of(study.set | part.set | part.reference)
    if wanted not in cells:
        raise UsageError(f"part {part.title!r}: reference = {dict(wanted.settings)} is none of its cells")
    return wanted


def seeds_of(study: Study, part: Part) -> range:
    return range(part.seeds or study.seeds)


def jobs(study: Study, only: Sequence[str] = ()) -> list[Job]:
    """The runs of a study, or of the parts that `only` names, each once; those of low seeds first, so that every cell has a
    result early. Raises UsageError."""
    if unknown := set(only) - set(study.parts):
        raise UsageError(f"no part {', '.join(sorted(unknown))}; there are {', '.join(study.parts)}")
    found: dict[str, Job] = {}
    for name, part in study.parts.items():
        if only and name not in only:
            continue
        reference_of(study, part)
        for seed in seeds_of(study, part):
            for cell in cells_of(study, part):
                job = job_of(study, cell, seed)
                found.setdefault(job.id, job)
    return sorted(found.values(), key=lambda job: job.seed)


def job_of(study: Study, cell: Cell, seed: int) -> Job:
    """The run of a cell and a seed. Raises UsageError for settings that no run could have."""
    if not isinstance(cell["global_batch"], int):
        raise UsageError(f"every cell needs a global_batch; {dict(cell.settings)} has none")
    job = Job(cell, seed, load_recipe(study.recipe, [*cell.overrides, f"seed={seed}"]))
    n = job.recipe.batch_per_worker
    if cell.global_batch % n or cell.global_batch < 1:
        raise UsageError(f"global_batch = {cell.global_batch} is no multiple of the recipe's batch_per_worker = {n}")
    return job


def told(settings: Mapping[str, Any]) -> str:
    """Settings as a table shows them."""
    return ", ".join(f"{key} = {value}" for key, value in settings.items())
