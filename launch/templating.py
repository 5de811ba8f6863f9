"""The texts that launchers render, from launch/templates/: values come in quoted for bash, or not at all."""

import shlex
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render_template(name: str, **values: Any) -> str:
    """The text of a template. Its filter `quote` makes one word of any string, as bash reads it."""
    templates = Environment(
        loader=PackageLoader("lbsgd.launch"),
        autoescape=False,  # noqa: S701 what is rendered is a script, not a page
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    templates.filters["quote"] = shlex.quote
    return templates.get_template(name).render(**values)
