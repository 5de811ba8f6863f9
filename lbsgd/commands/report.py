"""`lbsgd report`: one HTML page about a run, a scaling study or all of them."""

from pathlib import Path

import click

from lbsgd.commands.options import runs_option


@click.command()
@click.argument("subject", metavar="[RUN|STUDY|RUNS]", required=False)
@runs_option
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    help="File to write.  [default: report.html in the folder of its subject]",
)
@click.option(
    "--projection",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.json",
    help="Output of `lbsgd project --json`, drawn next to a study's measurements.",
)
@click.option("--open", "open_page", is_flag=True, help="Show the page in the web browser.")
def report(subject: str | None, runs: Path, output: Path | None, projection: Path | None, open_page: bool) -> None:
    """Write one HTML page about a run, a scaling study or a folder of them.

    The page needs no network and no other file. Give a name under --runs, a folder, or "latest"; without one, the page covers
    everything under --runs.

    \b
      lbsgd report latest --open
      lbsgd report 20260101T120000Z-bench --projection 256.json -o scaling.html
    """
    from lbsgd.errors import EnvironmentNotReady, UsageError
    from lbsgd.measuring.study import Study
    from lbsgd.record.atomic import write_atomically
    from lbsgd.report.page import make_page, render
    from lbsgd.report.projection import read_projection
    from lbsgd.report.sources import find_subject, read_subject

    folder = find_subject(subject, runs)
    found = read_subject(folder)
    if projection and not isinstance(found, Study):
        raise UsageError(f"--projection goes with a scaling study; {folder} is not one")
    page = render(make_page(found, read_projection(projection) if projection else None))
    output = output or folder / "report.html"
    try:
        write_atomically(output, page.encode(errors="replace"))
    except OSError as error:
        raise EnvironmentNotReady(f"cannot write {output}: {error.strerror}; give another file with -o") from error
    click.echo(output)
    if open_page:
        click.launch(output.absolute().as_uri())
