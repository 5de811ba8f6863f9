"""`lbsgd recipe`: what recipes there are, what they say, and how they differ."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lbsgd.commands.text_table import aligned
from lbsgd.errors import UsageError

if TYPE_CHECKING:
    from lbsgd.policy.recipe import Recipe

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")


@click.group()
def recipe() -> None:
    """List, show, compare and begin recipes."""


@recipe.command("list")
@JSON
def list_recipes(as_json: bool) -> None:
    """List the recipes that come with lbsgd."""
    from lbsgd.policy.recipe import load_recipe, preset_names, recipe_text

    rows = [(name, load_recipe(name), _summary(recipe_text(name))) for name in preset_names()]
    if as_json:
        found = [{"name": name, "model": one.model, "epochs": one.epochs, "about": about} for name, one, about in rows]
        click.echo(json.dumps(found, indent=2))
        return
    cells = [("name", "model", "epochs", "about"), *((name, one.model, str(one.epochs), about) for name, one, about in rows)]
    click.echo("\n".join(aligned(cells, "<<><")))


@recipe.command()
@click.argument("name", metavar="RECIPE")
@click.option("--resolved", is_flag=True, help="Print every value, also those from another recipe or by default.")
@JSON
def show(name: str, resolved: bool, as_json: bool) -> None:
    """Print RECIPE, the name of a preset or the path of a file."""
    from lbsgd.policy.recipe import load_recipe, recipe_text

    loaded = load_recipe(name)
    if as_json:
        click.echo(json.dumps(loaded.model_dump(mode="json"), indent=2))
    elif resolved:
        click.echo("\n".join(f"{key} = {_toml(value)}" for key, value in _values(loaded).items()))
    else:
        click.echo(recipe_text(name).rstrip())


@recipe.command()
@click.argument("first", metavar="RECIPE")
@click.argument("second", metavar="RECIPE")
@JSON
def diff(first: str, second: str, as_json: bool) -> None:
    """Show the values in which two recipes differ."""
    from lbsgd.policy.recipe import load_recipe

    one, other = (_values(load_recipe(name)) for name in (first, second))
    changed = {key: (one[key], other[key]) for key in one if one[key] != other[key]}
    if as_json:
        click.echo(json.dumps({key: list(values) for key, values in changed.items()}, indent=2))
    elif changed:
        cells = [("key", first, second), *((key, *map(_toml, values)) for key, values in changed.items())]
        click.echo("\n".join(aligned(cells)))
    else:
        click.echo("the recipes are the same")


@recipe.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--extends", "base", default="goyal2017", show_default=True, metavar="RECIPE", help="Recipe to start from.")
def new(file: Path, base: str) -> None:
    """Write a recipe FILE that extends another one, with every value of that one as a comment."""
    from lbsgd.policy.recipe import load_recipe

    if file.suffix != ".toml":
        raise UsageError(f"{file}: a recipe's file ends in .toml")
    if file.exists():
        raise UsageError(f"{file} exists; name a new file")
    values = load_recipe(base).model_dump(mode="json")
    lines = ["# Uncomment what differs; all else is as in the recipe that it extends.", "", f'extends = "{base}"']
    lines += [f'name = "{file.stem}"']
    lines += [f"# {key} = {_toml(value)}" for key, value in values.items() if not isinstance(value, dict) and key != "name"]
    for table, inside in values.items():
        if isinstance(inside, dict):
            said = [f"# {key} = {_toml(value)}" for key, value in inside.items() if value is not None]
            lines += ["", f"[{table}]", *said]
    try:
        file.write_text("\n".join(lines) + "\n")
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error
    click.echo(f"{file}: extends {base}; train with --recipe {file}")


def _values(loaded: "Recipe") -> dict[str, Any]:
    """All values by dotted key."""
    from lbsgd.record.run_record import flatten

    return flatten(loaded.model_dump(mode="json"))


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    return "(none)" if value is None else json.dumps(value)


def _summary(text: str) -> str:
    """What a file's first comment says before its colon."""
    return text.removeprefix("# ").partition(":")[0].replace("\n# ", " ")
