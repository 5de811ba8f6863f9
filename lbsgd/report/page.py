"""From what was read to the page: one HTML file that loads nothing and runs no script but its own.

The content security policy names the page's style and script by their hashes; whatever a run's name or an error text
contains, the browser executes nothing else.
"""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lbsgd import __version__
from lbsgd.measuring.study import Study
from lbsgd.record.run_record import utc_now
from lbsgd.report import folder, run, study
from lbsgd.report.blocks import Page
from lbsgd.report.folder import Folder
from lbsgd.report.projection import Projection
from lbsgd.report.run import RecordedRun
from lbsgd.report.text import moment

POLICY = "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'"
DETAIL = 100
"""Rows of a curve's table where a page is about one run."""


def make_page(subject: RecordedRun | Study | Folder, projection: Projection | None = None) -> Page:
    """What is on the page of a run, of a study (beside which `projection` is drawn) or of a folder."""
    if isinstance(subject, RecordedRun):
        record = subject.content
        return Page(record["id"], "Training run", record["status"], run.summary(record), run.blocks(subject),
                    (*run.results(subject, "run", DETAIL), *run.circumstances(subject, "run")))  # fmt: skip
    if isinstance(subject, Folder):
        name = subject.path.absolute().name
        return Page(name, "Runs", None, folder.summary(subject), folder.blocks(subject), folder.sections(subject))
    content = subject.content
    return Page(content["id"], "Scaling study", content["status"], study.summary(content), study.blocks(content),
                study.sections(content, "study", projection))  # fmt: skip


def render(page: Page) -> str:
    """The page as HTML."""
    templates = Environment(
        loader=PackageLoader("lbsgd.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters["code"] = code
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    return templates.get_template("page.html").render(
        page=page,
        style=Markup(style),
        script=Markup(script),
        policy=f"{POLICY}; style-src {_hash(style)}; script-src {_hash(script)}",
        version=__version__,
        written=moment(utc_now()),
    )


def code(text: str) -> Markup:
    """Escaped text in which what stands between backquotes is code."""
    words = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(word) if index % 2 else Markup("{}").format(word) for index, word in enumerate(words)
    )


def _asset(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text()


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
