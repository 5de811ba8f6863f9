"""What to train and how: the recipe, read from a preset or a TOML file and checked before anything runs.

A recipe says nothing about the machine. With the number of workers and of samples it becomes a schedule
(schedule.py) and a plan (plan.py).
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from lbsgd.errors import UsageError, did_you_mean
from lbsgd.policy.duration import Duration


def _duration(value: Any) -> Duration:
    return value if isinstance(value, Duration) else Duration.parse(str(value))


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{list(bounds)} should be [lowest, highest]")
    return bounds


# JSON and TOML know only lists, so a tuple may be given as one; its items are checked as all else.
FROM_LIST = Field(strict=False)
DurationText = Annotated[Duration, PlainValidator(_duration), PlainSerializer(str)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]

# What pydantic says in the words of Python, in the words of TOML.
PLAINLY = {
    "model_type": "should be a table of keys",
    "tuple_type": 'should be a list, such as ["30ep", "60ep"] or [0.08, 1.0]',
}


class RecipeSection(BaseModel):
    """A table of the recipe: frozen, unknown keys refused, no value converted from another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Optimizer(RecipeSection):
    """Minibatch SGD with momentum.

    kind: "sgd" is the paper's; weight decay spares batch norm's gamma and beta (section 5.1). "lars" adapts the rate of each
    layer to the norms of its weights and its gradient (You, Gitman and Ginsburg 2017), as MLPerf's reference does: the rate is
    inside of the velocity; gamma, beta and biases are neither adapted nor decayed.
    trust, epsilon: of lars, trust |w| / (|g| + weight_decay |w| + epsilon).
    clip_norm: the mean gradient over all workers is scaled down to this norm where it is longer; by default never.
    """

    kind: Literal["sgd", "lars"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(1e-4, ge=0)
    trust: Positive = 0.001
    epsilon: float = Field(0.0, ge=0)
    clip_norm: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov = true should come with a momentum above 0; set optimizer.nesterov=false")
        return self

    @model_validator(mode="after")
    def _lars_has_plain_momentum(self) -> Self:
        if self.kind == "lars" and self.nesterov:
            raise ValueError('kind = "lars" should come with plain momentum; set optimizer.nesterov=false')
        return self


class LearningRate(RecipeSection):
    """The rate for `reference_batch` samples, and how it follows the global batch (paper, section 2.1)."""

    reference: Positive = 0.1
    reference_batch: int = Field(256, ge=1)
    scaling: Literal["linear", "sqrt", "none"] = "linear"


class Warmup(RecipeSection):
    """The start of a run whose global batch is above `learning_rate.reference_batch` (paper, section 2.2).

    start: the rate that it begins with; by default the reference rate, as in the paper. With a start, a run of any global batch
    warms up.
    """

    kind: Literal["gradual", "constant", "none"] = "gradual"
    duration: DurationText = Duration.parse("5ep")
    start: float | None = Field(None, ge=0)


class Decay(RecipeSection):
    """How the rate falls: "steps" uses `at` and `factor`, "cosine" and "polynomial" go to `end`, a rate."""

    kind: Literal["steps", "cosine", "polynomial", "constant"] = "steps"
    at: Annotated[tuple[DurationText, ...], FROM_LIST] = tuple(map(Duration.parse, ("30ep", "60ep", "80ep")))
    factor: float = Field(0.1, gt=0, le=1)
    end: float = Field(0.0, ge=0)
    power: Positive = 2.0


class Images(RecipeSection):
    """How images become network inputs of `size` x `size` pixels and 3 channels.

    "imagenet": train on a random crop, its share of the area and its width / height drawn from `area` and
    `aspect_ratio`; evaluate the central crop after the short side was resized to `evaluation_resize` pixels.
    "small": train on a random crop after `padding` pixels were added on every side; evaluate the whole image.
    mean, std: of each channel, for values between 0 and 1; without default, since they belong to the data.
    """

    kind: Literal["imagenet", "small"] = "imagenet"
    size: int = Field(224, ge=1)
    evaluation_resize: int = Field(256, ge=1)
    flip: bool = True
    area: Annotated[tuple[PositiveShare, PositiveShare], FROM_LIST, AfterValidator(_ordered)] = (0.08, 1.0)
    aspect_ratio: Annotated[tuple[Positive, Positive], FROM_LIST, AfterValidator(_ordered)] = (3 / 4, 4 / 3)
    padding: int = Field(0, ge=0)
    mean: Annotated[tuple[Share, Share, Share], FROM_LIST]
    std: Annotated[tuple[PositiveShare, PositiveShare, PositiveShare], FROM_LIST]

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.kind == "imagenet" and self.evaluation_resize < self.size:
            raise ValueError(f"evaluation_resize = {self.evaluation_resize} should be at least size = {self.size}")
        return self


class Recipe(RecipeSection):
    """Everything a run is told that does not depend on the machine.

    batch_per_worker: images whose batch norm statistics are taken together, the paper's n.
    precision: what the network computes in; weights, gradients and updates are float32 in all of them. "auto" is bf16 where
    every rank's device has it in hardware, else fp32.
    last_gamma: what the scale of each residual block's last batch norm starts with (paper, section 5.1 and table 2b).
    model: a name of lbsgd.models, or "timm:NAME" (torch) or "keras:NAME" (tensorflow).
    """

    name: str
    model: str = "resnet50"
    epochs: int = Field(ge=1)
    batch_per_worker: int = Field(32, ge=1)
    seed: int = Field(0, ge=0, lt=2**63)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    last_gamma: float = Field(0.0, ge=0, le=1)
    optimizer: Optimizer = Optimizer()
    learning_rate: LearningRate = LearningRate()
    warmup: Warmup = Warmup()
    decay: Decay = Decay()
    images: Images
    _own_batch_per_worker: int | None = PrivateAttr(default=None)

    @property
    def own_batch_per_worker(self) -> int:
        """What its file says, where `load_recipe` has replaced that."""
        return self._own_batch_per_worker or self.batch_per_worker


def load_recipe(origin: str | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a preset's name, a TOML file's path or a record, with some of its values replaced.

    overrides: such as "decay.kind=cosine"; a value is read as TOML where it is TOML, else as plain text.
    Raises UsageError, in one line, for anything unknown, unreadable or out of range.
    """
    source, values = (f"recipe {origin}", _read(origin)) if isinstance(origin, str) else ("the recorded recipe", origin)
    recipe = _validate(values, source)
    if not overrides:
        return recipe
    replaced = recipe.model_dump(mode="json")
    for override in overrides:
        _replace(replaced, override)
    changed = _validate(replaced, source)
    changed._own_batch_per_worker = recipe.batch_per_worker
    return changed


def preset_names() -> list[str]:
    """The recipes that come with lbsgd, sorted."""
    files = resources.files("lbsgd.policy.recipes").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def recipe_text(name_or_file: str) -> str:
    """The file of a preset or at a path. Raises UsageError where there is none or it cannot be read."""
    presets = preset_names()
    if name_or_file in presets:
        file = resources.files("lbsgd.policy.recipes") / f"{name_or_file}.toml"
    elif (file := Path(name_or_file)).suffix != ".toml" and not file.is_file():
        hint = f"{did_you_mean(name_or_file, presets)} presets: {', '.join(presets)}".strip()
        raise UsageError(f"no recipe {name_or_file!r}; {hint}; or give the path of a .toml file")
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {name_or_file}: {getattr(error, 'strerror', None) or error}") from error


def _read(name_or_file: str, extending: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a file over those of the recipe that it extends, and so on. extending: the files that led here."""
    if name_or_file in extending:
        raise UsageError(f"recipe {extending[0]} extends itself: {' extends '.join((*extending, name_or_file))}")
    try:
        values = tomllib.loads(recipe_text(name_or_file))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"recipe {name_or_file}: {error}") from error
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise UsageError(f"recipe {name_or_file}: extends = {base!r}: should be a preset's name or the path of a .toml file")
    if base not in preset_names() and name_or_file not in preset_names():
        base = str(Path(name_or_file).parent / base)
    return _over(_read(base, (*extending, name_or_file)), values)


def _over(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The base with these values in place of its own; tables are merged key by key."""
    merged = base | values
    for name in base.keys() & values.keys():
        if isinstance(base[name], dict) and isinstance(values[name], dict):
            merged[name] = _over(base[name], values[name])
    return merged


def _replace(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise UsageError(f"{override!r} should be KEY=VALUE, such as decay.kind=cosine")
    if key not in set(_keys(Recipe)):
        raise UsageError(_unknown(key))
    *table, leaf = key.split(".")
    (values[table[0]] if table else values)[leaf] = _parse(text)


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _validate(values: Mapping[str, Any], source: str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(map(_problem, error.errors()))
        raise UsageError(f"{source}: {problems}") from error


def _problem(error: ErrorDetails) -> str:
    """One of pydantic's errors as "key = given: what it should be"."""
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])[1:]
    if error["type"] == "extra_forbidden":
        return _unknown(key)
    if error["type"] == "missing":
        return f"key {key!r} is missing"
    if error["type"] == "value_error":  # raised here, with what was given in its text
        return f"{key}: {error['ctx']['error']}"
    allowed = PLAINLY.get(error["type"], error["msg"].removeprefix("Input "))
    return f"{key} = {error['input']!r}: {allowed}"


def _unknown(key: str) -> str:
    keys = list(_keys(Recipe))
    inside = [name for name in keys if name.startswith(f"{key}.")]
    if inside:
        return f"{key!r} is a table, not a value; set one of {', '.join(inside)}"
    table = key.rpartition(".")[0]
    beside = [name for name in keys if table and name.startswith(f"{table}.")]
    close = did_you_mean(key, keys)
    if beside or not close:
        close = f"{close} there are {', '.join(beside or keys)}".lstrip()
    return f"unknown key {key!r}; {close}"


def _keys(section: type[RecipeSection], prefix: str = "") -> Iterator[str]:
    """The dotted names of all values, "decay.kind"."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, RecipeSection):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name
