"""The options that `lbsgd train` and `lbsgd plan` share, and the recipe that they amount to.

Flags go before `--set`, and both go before the file or preset.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lbsgd.launch.horovod.installed import FRAMEWORKS

if TYPE_CHECKING:
    from lbsgd.policy.recipe import Recipe

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

ALIASES = {"pytorch": "torch", "tf": "tensorflow"}
"""What else people call the frameworks."""


class FrameworkChoice(click.Choice):
    """A framework by its name or an alias, in capitals or not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The framework's own name."""
        return super().convert(ALIASES.get(str(value).lower(), value), param, ctx)


FRAMEWORK = FrameworkChoice(tuple(FRAMEWORKS), case_sensitive=False)
POSITIVE = click.IntRange(min=1)

RECIPE_OPTIONS = (
    click.option(
        "--recipe",
        metavar="NAME|FILE",
        default="goyal2017",
        show_default=True,
        help="Preset or TOML file: what to train and how.",
    ),
    click.option(
        "--model",
        metavar="NAME",
        help="Network, such as resnet50, timm:NAME (torch) or keras:NAME (tensorflow).",
    ),
    click.option("--batch-per-gpu", type=POSITIVE, help="Images per worker and iteration, the paper's n."),
    click.option("--epochs", type=POSITIVE, help="Length of the run; the decay points do not move."),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
        help="Arithmetic precision; auto: bf16 on devices that have it.",
    ),
    click.option("--seed", type=click.IntRange(min=0), help="Random seed."),
    click.option(
        "--set",
        "set_values",
        metavar="KEY=VALUE",
        multiple=True,
        help="Replace any value of the recipe, such as decay.kind=cosine. Repeatable.",
    ),
)

RUN_OPTIONS = (
    click.option(
        "--accumulate",
        type=POSITIVE,
        show_default="1",
        help="Virtual workers per rank, which take turns in each iteration.",
    ),
    click.option(
        "--max-steps",
        type=POSITIVE,
        help="End the run after this many iterations; the schedule does not change.",
    ),
)

READING_OPTIONS = (
    click.option("--data-threads", type=POSITIVE, help="Image-reading threads per rank.  [default: its share of the cores]"),
    click.option(
        "--read-timeout",
        type=click.FloatRange(min=0.1),
        metavar="SECONDS",
        default=120.0,
        show_default=True,
        help="Time limit of a read; a slower one is an error that names the image.",
    ),
    click.option(
        "--bad-samples",
        metavar="fail|replace[:N]",
        default="fail",
        show_default=True,
        help="Unreadable images: fail at the first one, or replace up to N of them (evaluation leaves them out).",
    ),
)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `resolve_recipe` takes."""
    return _apply(RECIPE_OPTIONS, command)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--accumulate (None means 1) and --max-steps."""
    return _apply(RUN_OPTIONS, command)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--data-threads (None means automatic), --read-timeout and --bad-samples, how images are read."""
    return _apply(READING_OPTIONS, command)


def framework_option(*, required: bool, help: str) -> Decorator:
    """--framework, one of the two backends."""
    return click.option("--framework", type=FRAMEWORK, required=required, help=help)


def data_option(*, required: bool, help: str) -> Decorator:
    """--data, the data set as `lbsgd.data.open_dataset` takes it."""
    return click.option("--data", metavar="DIR", required=required, help=help)


def runs_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--runs, the folder of all runs, as the argument `runs`."""
    folder = click.Path(path_type=Path, file_okay=False)
    help = "Folder that holds the folders of all runs."
    return click.option("--runs", "runs", type=folder, default="runs", show_default=True, help=help)(command)


def resolve_recipe(
    recipe: str | Mapping[str, Any],
    set_values: Sequence[str],
    model: str | None,
    batch_per_gpu: int | None,
    epochs: int | None,
    precision: str | None,
    seed: int | None,
) -> "Recipe":
    """The recipe that the values of `recipe_options` amount to; `recipe` may be a recorded one.

    Raises UsageError as `load_recipe` does.
    """
    from lbsgd.policy.recipe import load_recipe

    flags = {
        "model": model,
        "batch_per_worker": batch_per_gpu,
        "epochs": epochs,
        "precision": precision,
        "seed": seed,
    }
    given = [f"{key}={json.dumps(value)}" for key, value in flags.items() if value is not None]
    return load_recipe(recipe, [*set_values, *given])


def _apply(options: Sequence[Decorator], command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command
