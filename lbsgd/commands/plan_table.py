"""A plan as `lbsgd plan` and `lbsgd train` show it."""

from typing import TYPE_CHECKING

from lbsgd.commands.text_table import aligned

if TYPE_CHECKING:
    from lbsgd.policy.plan import Plan


def plan_table(planned: "Plan") -> str:
    """The plan as aligned lines, name, value and where it comes from; then its warnings."""
    cells = [(row.name, _text(row.value), row.reason) for row in planned.reasons]
    return "\n".join([*aligned(cells, "<><"), *(f"warning: {text}" for text in planned.warnings)])


def _text(value: int | float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
