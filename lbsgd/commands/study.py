"""`lbsgd study`: many small runs that are compared with one another, and the page that says what came out."""

import filecmp
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lbsgd.commands.options import POSITIVE
from lbsgd.errors import TargetMissed, UsageError

if TYPE_CHECKING:
    from lbsgd.experiments.grid import Study
    from lbsgd.experiments.results import Results

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--data", metavar="DIR", help="The data set that all runs train on.")
@click.option("--jobs", "-j", type=POSITIVE, help="Runs at a time.  [default: one per core]")
@click.option("--part", "parts", multiple=True, metavar="NAME", help="Only the runs of this part. Repeatable.")
@click.option("--results", type=FILE, help="JSON file of the results.  [default: beside FILE, .results.json]")
@click.option("--page", type=FILE, help="Page to write, figures beside it.  [default: beside FILE, .md]")
@click.option("--check", is_flag=True, help="Run nothing: derive page and figures from the results, and compare.")
def study(
    file: Path,
    data: str | None,
    jobs: int | None,
    parts: tuple[str, ...],
    results: Path | None,
    page: Path | None,
    check: bool,
) -> None:
    """Train a grid of small runs, and write a page about the outcome.

    FILE describes the grid in TOML (docs/studies.md). Each run is an `lbsgd train` of its own, and each cell has several seeds.
    A study that was stopped resumes. A run that diverges is a result.

    \b
      lbsgd study study.toml --data digits
      lbsgd study study.toml --check
    """
    from lbsgd.experiments.grid import read_study
    from lbsgd.experiments.page import write_page
    from lbsgd.experiments.results import Results

    about = read_study(file)
    kept = Results(results or file.with_suffix(".results.json"))
    target = page or file.with_suffix(".md")
    if check:
        _check(about, kept, target)
        return
    if data is None:
        raise UsageError("a study needs --data DIR; with --check it does not train")
    try:
        _run(about, kept, data, parts, jobs or len(os.sched_getaffinity(0)))
    finally:
        if kept.runs:
            write_page(about, kept, target)
    click.echo(f"{target}: {len(kept.runs)} runs")


def _run(about: "Study", kept: "Results", data: str, parts: tuple[str, ...], at_once: int) -> None:
    from lbsgd.data import open_dataset
    from lbsgd.experiments.grid import jobs
    from lbsgd.experiments.running import run_jobs
    from lbsgd.record.environment import versions

    wanted = jobs(about, parts)
    dataset = open_dataset(data)
    kept.require_data(f"{dataset.train.digest} {dataset.validation.digest}")
    kept.environment = {"cores": os.cpu_count(), **versions()}
    folder = kept.file.with_suffix("").with_suffix(".runs")
    run_jobs(wanted, kept, folder, recipe=about.recipe, data=data, at_once=at_once, say=lambda text: click.echo(text, err=True))
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _check(about: "Study", kept: "Results", target: Path) -> None:
    """Raise TargetMissed when page or figures are not what the results say."""
    from lbsgd.experiments.page import write_page

    with tempfile.TemporaryDirectory() as name:
        anew = Path(name) / target.name
        write_page(about, kept, anew)
        made = [path for path in Path(name).rglob("*") if path.is_file()]
        pairs = [(path, target.parent / path.relative_to(name)) for path in made]
        differing = [str(old) for new, old in pairs if not old.exists() or not filecmp.cmp(new, old, shallow=False)]
    if differing:
        raise TargetMissed(f"not what the results say: {', '.join(sorted(differing))}; `lbsgd study` writes them anew")
    click.echo(f"{target}: page and {len(made) - 1} figures are what {len(kept.runs)} runs say")
