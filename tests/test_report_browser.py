"""The report as a browser shows it: on a phone and a desktop, in light, in dark and on paper, with keys and without script."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from lbsgd.report.page import make_page, render
from lbsgd.report.projection import read_projection
from lbsgd.report.sources import read_subject
from tests.browser import Tab, chromium, find_chromium
from tests.report_samples import write_run, write_study
from tests.test_report_page import HOSTILE, PREDICTIONS

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on PATH or in $CHROMIUM: apt-get install chromium")

PAGES = ("run", "hostile", "study", "folder")

OVERFLOWING = """[...document.querySelectorAll("body *")]
  .filter((e) => !e.closest(".scroll, .skip, .unseen") && e.getBoundingClientRect().right > innerWidth + 0.5)
  .map((e) => e.outerHTML.slice(0, 80))"""
TOUCHING = """[...document.querySelectorAll(".plot")].flatMap((plot) => {
  const boxes = [...plot.querySelectorAll("text.x")].map((e) => e.getBoundingClientRect()).sort((a, b) => a.left - b.left);
  return boxes.slice(1).filter((box, index) => box.left < boxes[index].right + 2).map((box) => box.left);
})"""
CLIPPED = """[...document.querySelectorAll("figure")].flatMap((figure) => {
  const edge = figure.getBoundingClientRect();
  const texts = [...figure.querySelectorAll("text")];
  return texts.filter((e) => e.getBoundingClientRect().left < edge.left).map((e) => e.textContent);
})"""
BROKEN = """[...document.querySelectorAll(".headlines .value")].filter((value) => {
  const range = document.createRange();
  range.selectNodeContents(value);
  return new Set([...range.getClientRects()].map((line) => line.top)).size > value.textContent.split(/[ \\n]+/).length;
}).map((value) => value.textContent)"""


@pytest.fixture(scope="module")
def browser():
    with chromium(find_chromium()) as browser:
        yield browser


@pytest.fixture
def show(browser):
    """show(file, width=..., height=..., dark=..., media=..., script=...): a tab with the file."""
    tabs = []

    def show(file: Path, **window) -> Tab:
        tabs.append(Tab(browser, file, **window))
        return tabs[-1]

    yield show
    for tab in tabs:
        tab.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    write_run(folder / "runs" / "run", steps=5000, workers=64)
    write_run(folder / "runs" / ("long-name" * 20), steps=500, workers=64)
    write_run(folder / "runs" / "hostile", hostile=HOSTILE + "x" * 300)
    write_study(folder / "runs" / "study", error=HOSTILE)
    (folder / "p.json").write_text(json.dumps(PREDICTIONS))
    projection = read_projection(folder / "p.json")
    files = {}
    for name in PAGES:
        subject = read_subject(folder / "runs" / name if name != "folder" else folder / "runs")
        files[name] = folder / f"{name}.html"
        files[name].write_text(render(make_page(subject, projection if name == "study" else None)))
    return files


def image(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_loaded_executed_or_complained_about(show, pages, name):
    tab = show(pages[name])
    assert [url for url in tab.requests if not url.startswith("data:")] == [pages[name].as_uri()]
    assert tab.complaints == []
    assert tab.evaluate("document.title") != "taken"


def test_the_policy_stops_what_is_not_the_page_s_own(show, pages, tmp_path):
    changed = tmp_path / "changed.html"
    script = "<script>document.title = 'taken'</script><img src='https://example.org/x.png'>"
    changed.write_text(pages["run"].read_text().replace("</main>", f"{script}</main>"))
    tab = show(changed)
    assert tab.evaluate("document.title") != "taken"
    assert any("script" in text for text in tab.complaints)
    assert any("image" in text for text in tab.complaints)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [320, 360, 768, 1100, 1200])
def test_nothing_is_wider_than_the_window_no_text_covers_another_and_no_figure_is_broken(show, pages, name, width):
    tab = show(pages[name], width=width, height=800)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(OVERFLOWING) == []
    assert tab.evaluate(TOUCHING) == []
    assert tab.evaluate(CLIPPED) == []
    assert tab.evaluate(BROKEN) == []


@pytest.mark.parametrize("name", ["run", "study"])
def test_dark_and_light_differ_and_both_show_the_curves(show, pages, name):
    shown = {}
    for dark in (False, True):
        tab = show(pages[name], dark=dark)
        shown[dark] = image(tab.page.screenshot(full_page=True))
        assert len(shown[dark].getcolors(1 << 24)) > 100
    assert shown[False].size == shown[True].size
    assert min(shown[False].getpixel((2, 2))) > 240
    assert max(shown[True].getpixel((2, 2))) < 40


def test_curves_lie_within_their_plots(show, pages):
    """Where the browser puts a curve's pixels: the loss falls from the upper left to the lower right."""
    tab = show(pages["run"])
    box = tab.evaluate(
        """(() => { const svg = document.querySelector("#run-chart-loss .plot > svg"), plot = svg.getBoundingClientRect();
        const path = svg.querySelector("path.line").getBoundingClientRect();
        return [path.left - plot.left, plot.right - path.right, path.top - plot.top, plot.bottom - path.bottom,
          path.width]; })()"""
    )
    assert min(box) > -3
    assert box[4] > 300
    ends = tab.evaluate(
        """(() => { const path = document.querySelector("#run-chart-loss .plot path.line"), length = path.getTotalLength();
        return [path.getPointAtLength(0).y, path.getPointAtLength(length).y]; })()"""
    )
    assert ends[0] < 300 < 700 < ends[1]


def test_values_are_read_by_keys(show, pages):
    tab = show(pages["study"])
    tab.evaluate("document.querySelector('#study-chart-efficiency .reader').focus()")
    output = "document.querySelector('#study-chart-efficiency output').textContent.replaceAll('\\u00a0', ' ')"
    assert tab.evaluate(output).startswith("workers 8 · framework torch · efficiency 100.0 %")
    tab.page.keyboard.press("End")
    assert tab.evaluate(output) == "workers 512 · framework prediction · efficiency 83.0 % · interval 75 to 91 %"
    tab.page.keyboard.press("ArrowLeft")
    assert "workers 256" in tab.evaluate(output)
    told = tab.evaluate("document.querySelector('#study-chart-efficiency .reader').getAttribute('aria-valuetext')")
    assert told.startswith("workers 256")
    assert tab.evaluate("document.querySelectorAll('.crosshair').length") == 1


def test_values_are_read_by_pointer(show, pages):
    tab = show(pages["study"], height=2000)
    left, top, width, height = tab.evaluate(
        """(() => { const box = document.querySelector("#study-chart-efficiency .plot").getBoundingClientRect();
        return [box.left, box.top, box.width, box.height]; })()"""
    )
    tab.page.mouse.move(left + width - 2, top + height / 2)
    output = "document.querySelector('#study-chart-efficiency output').textContent"
    assert tab.evaluate(output).startswith("workers 512")
    tab.page.mouse.move(2, 2)
    assert tab.evaluate(output) == ""


def test_keys_reach_everything_and_skip_the_header_first(show, pages):
    tab = show(pages["run"])
    tab.page.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    assert tab.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    reached = set()
    for _ in range(60):
        tab.page.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.className || document.activeElement.tagName"))
    assert {"A", "reader", "SUMMARY", "scroll", "PRE"} <= reached


@pytest.mark.parametrize("name", ["run", "study"])
def test_screen_readers_are_told_what_every_chart_shows(show, pages, name):
    tab = show(pages[name])
    nodes = tab.accessibility_tree()
    roles = [node["role"]["value"] for node in nodes]
    charts = [node for node in nodes if node["role"]["value"] == "image"]
    assert len(charts) == tab.evaluate("document.querySelectorAll('figure').length") >= 3
    assert all(len(node["name"]["value"]) > 40 for node in charts)
    assert {"banner", "navigation", "main", "contentinfo", "heading", "table", "columnheader", "slider"} <= set(roles)
    assert all(node["name"]["value"] for node in nodes if node["role"]["value"] in ("slider", "region"))


def test_without_script_everything_is_there_but_the_reading(show, pages):
    plain = image(show(pages["run"], script=False).page.screenshot(full_page=True))
    assert image(show(pages["run"]).page.screenshot(full_page=True)).tobytes() == plain.tobytes()


def test_paper_is_white_even_in_dark_mode_and_the_pages_are_few(show, pages):
    tab = show(pages["study"], width=794, dark=True, media="print")
    assert image(tab.page.screenshot(full_page=True)).getpixel((2, 2)) == (255, 255, 255)
    assert tab.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    document = tab.page.pdf()
    assert document.startswith(b"%PDF")
    assert 2 <= document.count(b"/Type /Page\n") <= 8
