"""The option --json of every benchmark."""

from collections.abc import Callable
from pathlib import Path

import click


def make_folder(context: click.Context, option: click.Parameter, file: Path | None) -> Path | None:
    """Make the file's folder before anything is measured: a result must not be lost for the lack of one."""
    if file:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.BadParameter(f"cannot make the folder {file.parent}: {error.strerror}", context, option) from error
    return file


json_option: Callable = click.option(
    "--json",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=make_folder,
    help="Write everything measured here.",
)
