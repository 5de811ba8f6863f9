"""What is on a report's page, and that it is sound HTML, small, and the same for hostile records."""

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from lbsgd.cli import cli
from lbsgd.errors import EnvironmentNotReady, UsageError
from lbsgd.record.run_record import RunRecord
from lbsgd.report.page import make_page, render
from lbsgd.report.projection import read_projection
from lbsgd.report.sources import read_subject
from tests.report_samples import write_run, write_study

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>\"'&`{{ 7*7 }}"
VOID = {"meta", "link", "br", "input", "img"}
PREDICTIONS = {
    "predictions": [
        {
            "gpus": 512,
            "step_ms": 180.0,
            "efficiency": 0.83,
            "efficiency_band": [0.75, 0.91],
            "exposed_ms": 40.0,
            "bottleneck": "network",
        },
        {
            "gpus": 256,
            "step_ms": 160.0,
            "efficiency": 0.86,
            "efficiency_band": [0.79, 0.93],
            "exposed_ms": 30.0,
            "bottleneck": "network",
        },
    ],
    "baseline_gpus": 8,
    "assumptions": ["8 GPUs per node, 50 Gbit/s, tcp", "backward is 66% of a step"],
}


class Parsed(HTMLParser):
    """The elements of a page, and its text without style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        self.text = " ".join(self.text.replace("\N{NO-BREAK SPACE}", " ").split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += f" {data}"

    def having(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]


def page_of(folder: Path, projection: Path | None = None) -> str:
    return render(make_page(read_subject(folder), read_projection(projection) if projection else None))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two comparable runs, one full of markup, and a study."""
    folder = tmp_path_factory.mktemp("report") / "runs"
    write_run(folder / "a-8", steps=600, workers=8)
    write_run(folder / "b-64", workers=64)
    write_run(folder / "c-hostile", hostile=HOSTILE)
    write_study(folder / "d-bench", error=f"exit code 3: {HOSTILE}")
    return folder


@pytest.fixture(scope="module")
def projection(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("projection") / "p.json"
    file.write_text(json.dumps(PREDICTIONS))
    return file


@pytest.mark.parametrize("name", ["a-8", "c-hostile", "d-bench", "."])
def test_the_page_is_sound_html_that_can_be_navigated(runs, projection, name):
    page = Parsed(page_of(runs / name, projection if name == "d-bench" else None))
    assert page.open == []
    ids = page.having("id")
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    for attribute in ("aria-labelledby", "href"):
        targets = [
            word.lstrip("#") for value in page.having(attribute) if not value.startswith("data:") for word in value.split()
        ]
        assert set(targets) <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 and after > 1 for before, after in zip(levels, levels[1:], strict=False))
    tags = Counter(tag for tag, _ in page.elements)
    assert (tags["main"], tags["nav"], tags["header"], tags["footer"], tags["h1"]) == (1, 1, 1, 1, 1)
    assert tags["table"] == tags["caption"]
    assert ("html", {"lang": "en"}) in page.elements


@pytest.mark.parametrize("name", ["a-8", "c-hostile", "d-bench", "."])
def test_the_page_names_nothing_outside_of_itself_and_no_markup_comes_from_a_record(runs, name):
    page = Parsed(page_of(runs / name))
    assert page.having("src") == []
    assert [value for value in page.having("href") if not value.startswith(("#", "data:image/svg+xml,"))] == []
    assert [key for _, attributes in page.elements for key in attributes if key.startswith("on") or key == "style"] == []
    tags = Counter(tag for tag, _ in page.elements)
    assert (tags["script"], tags["style"], tags["img"], tags["iframe"]) == (1, 1, 0, 0)


def test_hostile_text_is_shown_as_it_is(runs):
    assert "onerror=alert(1)" in Parsed(page_of(runs / "c-hostile")).text
    assert "{{ 7*7 }}" in Parsed(page_of(runs / "d-bench")).text


def test_a_run_s_page_has_its_figures_curves_and_facts(runs):
    page = Parsed(page_of(runs / "a-8"))
    for text in ("23.74 %", "2,000", "86.6 %", "91.0 %", "8 workers against 1 of 20260101T000000Z-bench", "127.1 ms",
                 "Training loss", "Validation error", "Learning rate", "Speed",
                 "communication 10.0 %", "waiting 3.0 %", "global batch 256 = 8 × 32", "optimizer.momentum", "versions.torch",
                 "policy replace:100", "lbsgd train --framework torch --data /data/imagenet"):  # fmt: skip
        assert text in page.text, text
    assert "Training loss goes from 6." in page.text
    assert "Scaling efficiency so far goes from" in page.text
    assert "95 % interval 85.0 % to 88.0 %, 25 measured steps" in page.text


def test_one_worker_s_page_says_nothing_of_scaling(tmp_path):
    record = write_run(tmp_path / "runs" / "alone", workers=1)
    split = {"data": 0.02, "compute": 0.97, "waiting": 0.0, "communication": 0.0, "other": 0.01}
    record.update(scaling=record.content["scaling"] | {"efficiency": None, "interval": None}, scaling_baseline=None,
                  time_split=split)  # fmt: skip
    text = Parsed(page_of(tmp_path / "runs" / "alone")).text
    assert "Scaling efficiency" not in text
    assert "% efficient" not in text
    assert "Less exposed communication" not in text


def test_a_study_s_page_has_its_sizes_losses_failures_and_what_to_try(runs):
    page = Parsed(page_of(runs / "d-bench"))
    for text in ("torch on 256 workers", "95 % interval", "Where the time went", "waiting", "Less exposed communication",
                 "Rank 5 on host node00 computes for 129.0 ms", "Failed: tensorflow on 256 workers", "exit code 3: <",
                 "against 8 workers"):  # fmt: skip
        assert text.replace("<", "</script>") in page.text, text
    assert "prediction" not in page.text.lower()


def test_a_projection_is_told_apart_from_what_was_measured(runs, projection):
    page = Parsed(page_of(runs / "d-bench", projection))
    assert "Prediction, not measured" in page.text
    assert "Efficiency is against 8 workers" in page.text
    assert "backward is 66% of a step" in page.text
    assert "512 prediction 83.0 % 75 to 91 %" in page.text
    drawn = [attributes["class"] for tag, attributes in page.elements if "prediction" in attributes.get("class", "")]
    assert drawn.count("mark prediction s4") == 2 + 1  # the third in the legend


def test_a_folder_s_page_links_to_every_run_and_compares_what_can_be_compared(runs):
    page = Parsed(page_of(runs))
    assert "3 runs" in page.text
    assert "1 scaling study" in page.text
    links = [value for value in page.having("href") if value.startswith("#item-")]
    assert set(links) == {f"#item-{number}" for number in (1, 2, 3, 4)}
    assert "Speed per worker, against a-8" in page.text
    comparison = page.text.split("Comparable runs")[2].split("d-bench")[0]
    assert "b-64 64 250 100.0 % 86.6 %" in comparison
    assert "c-hostile" not in comparison  # it failed


def test_a_run_of_a_hundred_thousand_steps_makes_a_small_page(tmp_path):
    write_run(tmp_path / "long", steps=100_000)
    page = page_of(tmp_path / "long")
    assert len(page.encode()) < 200_000
    paths = [attributes["d"] for tag, attributes in Parsed(page).elements if tag == "path"]
    assert max(len(path.split()) // 2 for path in paths) <= 1000
    assert len(paths) >= 6


def test_a_folder_of_many_runs_stays_below_half_a_megabyte(tmp_path):
    for number in range(40):
        write_run(tmp_path / f"run-{number:02d}", steps=1500)
    page = Parsed(html := page_of(tmp_path))
    assert len(html.encode()) < 500_000
    assert "The newest 12 are shown below" in page.text
    assert all(f"run-{number:02d}" in page.text for number in range(40))


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
    record = write_run(tmp_path / "done", steps=60).content
    begun = RunRecord.create(tmp_path / "begun")
    unknown = dict.fromkeys(("throughput", "time_split", "scaling", "scaling_baseline", "final"))
    begun.begin(0, {key: record[key] for key in record if key not in ("schema", "id", "status", "error", "attempts")} | unknown)
    page = Parsed(page_of(tmp_path / "begun"))
    assert "not evaluated yet" in page.text
    assert "Where the time went" not in page.text
    begun.log("step", step=0, epoch=0.0, lr=0.1, loss=float("nan"))
    begun.log("eval", step=0, epoch=1.0, top1_error=0.5, loss=1.0, samples=9)
    assert "50.00 % so far, after epoch 1" in Parsed(page_of(tmp_path / "begun")).text


def test_a_folder_without_runs_and_a_broken_record_are_said(tmp_path):
    assert "Nothing is recorded here" in Parsed(page_of(tmp_path)).text
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    write_run(tmp_path / "whole", steps=60)
    text = Parsed(page_of(tmp_path)).text
    assert "run.json cannot be read" in text
    assert "whole" in text


def test_the_policy_allows_the_page_s_own_style_and_script_only(runs):
    html = page_of(runs / "a-8")
    policy = next(value for value in Parsed(html).having("content") if "default-src" in value)
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert policy.count("sha256-") == 2


def luminance(colour: str) -> float:
    colour = colour if len(colour) == 7 else "#" + "".join(2 * digit for digit in colour[1:])
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "print"])
def test_text_and_graphics_stand_out_from_their_background(runs, theme):
    html = page_of(runs / "a-8")
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", re.findall(r":root \{([^}]+)\}", html)[theme]))
    for background in ("paper", "card"):
        for name in ("ink", "quiet", "link"):
            assert contrast(colours[name], colours[background]) >= 4.5, (name, background)
        for name in ("s0", "s1", "s2", "s3", "s4", "compute", "waiting", "communication", "data", "other"):
            assert contrast(colours[name], colours[background]) >= 3, (name, background)
    assert contrast(colours["warning"], colours["warning-paper"]) >= 4.5
    assert contrast(colours["good"], colours["paper"]) >= 4.5


def call(*arguments: object):
    return CliRunner().invoke(cli, ["report", *map(str, arguments)], catch_exceptions=True)


def test_the_page_goes_beside_the_record_or_where_it_is_told(runs, tmp_path):
    done = call("a-8", "--runs", runs)
    assert done.output.strip() == str(runs / "a-8" / "report.html")
    assert "a-8" in (runs / "a-8" / "report.html").read_text()
    call("latest", "--runs", runs, "-o", tmp_path / "x.html")
    assert "<title>d-bench" in (tmp_path / "x.html").read_text()
    call("--runs", runs, "-o", tmp_path / "all.html")
    assert "<title>runs – Runs" in (tmp_path / "all.html").read_text()
    call(runs / "b-64", "--runs", tmp_path, "-o", tmp_path / "b.html")
    assert "<title>b-64" in (tmp_path / "b.html").read_text()


def test_what_cannot_be_reported_is_said(runs, tmp_path, projection):
    assert isinstance(error := call("a-9", "--runs", runs).exception, UsageError)
    assert str(error).endswith("did you mean 'a-8'?")
    assert isinstance(call("--runs", tmp_path / "none").exception, UsageError)
    error = call("a-8", "--runs", runs, "--projection", projection).exception
    assert str(error).startswith("--projection goes with a scaling study")
    (tmp_path / "p.json").write_text('{"predictions": [{}]}')
    error = call("d-bench", "--runs", runs, "--projection", tmp_path / "p.json").exception
    assert "is not what `lbsgd project --json` prints" in str(error)
    error = call("a-8", "--runs", runs, "-o", tmp_path / "no" / "x.html").exception
    assert isinstance(error, EnvironmentNotReady)
    assert "give another file with -o" in str(error)


def test_names_that_are_no_text_are_reported_all_the_same(tmp_path):
    record = write_run(tmp_path / "run", steps=60)
    record.update(data="/data/\ud800")
    assert call("run", "--runs", tmp_path).exit_code == 0
    assert "/data/?" in (tmp_path / "run" / "report.html").read_text()
