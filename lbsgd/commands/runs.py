"""`lbsgd runs`: what was run, with which result."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lbsgd.commands.options import runs_option
from lbsgd.commands.text_table import aligned

if TYPE_CHECKING:
    from lbsgd.record.run_content import RunContent

RATIO = "ratio.images_per_second_per_worker"
"""Over the first run's."""

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")


@click.group()
def runs() -> None:
    """List, show and compare recorded runs."""


@runs.command("list")
@runs_option
@JSON
def list_runs(runs: Path, as_json: bool) -> None:
    """List the recorded runs and studies, one per line, oldest first."""
    from lbsgd.commands.runs_table import ALIGNMENT, HEADER, run_row, study_row

    records = _read_all(runs)
    if as_json:
        click.echo(json.dumps(records, indent=2))
    elif not records:
        click.echo(f"no runs in {runs}; `lbsgd train` makes one", err=True)
    else:
        rows = [study_row(record) if "sizes" in record else run_row(record) for record in records]
        click.echo("\n".join(aligned([HEADER, *rows], ALIGNMENT)))


@runs.command()
@click.argument("run")
@runs_option
@JSON
def show(run: str, runs: Path, as_json: bool) -> None:
    """Show everything that is recorded of RUN: a name under --runs, a folder, or "latest"."""
    record = _find(run, runs)
    if as_json:
        click.echo(json.dumps(record, indent=2))
        return
    from lbsgd.record.run_record import flatten

    rows = [[name, _text(value)] for name, value in flatten(record).items()]
    click.echo("\n".join(aligned([["key", "value"], *rows])))


@runs.command()
@click.argument("names", metavar="RUN RUN...", nargs=-1, required=True)
@runs_option
@JSON
def compare(names: tuple[str, ...], runs: Path, as_json: bool) -> None:
    """Show the results of several RUNs side by side, and the settings in which they differ."""
    from lbsgd.errors import UsageError
    from lbsgd.record.run_record import flatten

    if len(names) < 2:
        raise UsageError("compare takes at least two runs; `lbsgd runs list` shows them")
    records = [_find(name, runs) for name in names]
    results = (
        "throughput.images_per_second",
        "scaling.efficiency",
        "final.top1_error",
        "final.loss",
        "final.epoch",
    )
    settings = ("framework", "data", "world.", "recipe.", "schedule.", "environment.")
    flat = [flatten(record) for record in records]
    keys = list(dict.fromkeys(key for record in flat for key in record))
    shown = [k for k in keys if k.startswith(settings) and len({str(record.get(k)) for record in flat}) > 1]
    table = {key: [record.get(key) for record in flat] for key in (*shown, *results)}
    table[RATIO] = _ratios([record.get("throughput.images_per_second_per_worker") for record in flat])
    if as_json:
        click.echo(json.dumps({"runs": [record["id"] for record in records], "values": table}, indent=2))
    else:
        rows = [[key, *map(_text, values)] for key, values in table.items()]
        click.echo("\n".join(aligned([["", *(record["id"] for record in records)], *rows])))


def _ratios(values: list[float | None]) -> list[float | None]:
    """Each over the first."""
    first = values[0]
    return [value / first if value and first else None for value in values]


def _read_all(runs: Path) -> "list[Any]":
    """The records under `runs`, in the order in which they were started; one that cannot be read is a warning."""
    from lbsgd.errors import UsageError
    from lbsgd.measuring import study
    from lbsgd.record.run_record import read_run
    from lbsgd.record.runs_folder import RUN_FILE, recorded

    records = []
    for folder in recorded(runs, RUN_FILE, study.FILE):
        is_run = (folder / RUN_FILE).exists()
        try:
            records.append(read_run(folder) if is_run else study.read_study(folder).content)
        except UsageError as error:
            click.echo(f"warning: {error}", err=True)
    return records


def _find(name: str, runs: Path) -> "RunContent":
    """The record of the run called `name`.

    Raises UsageError when there is none.
    """
    from lbsgd.record.run_record import read_run
    from lbsgd.record.runs_folder import RUN_FILE, find_recorded

    return read_run(find_recorded(name, runs, RUN_FILE))


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
