"""A study as text, Markdown, CSV and picture."""

import csv
import io

import pytest

from lbsgd.commands.study_table import as_text
from lbsgd.measuring.step_parts import PARTS
from lbsgd.measuring.study_plot import plot
from lbsgd.measuring.study_tables import HEADER, as_csv, as_markdown

from .scaling_samples import study

TWO = {"frameworks": ("torch", "tensorflow")}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_text_is_aligned_and_says_what_was_measured(tmp_path):
    lines = as_text(study(tmp_path / "study")).splitlines()
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[1].split()[:3] == ["torch", "1", "3,200.0"]
    assert "baseline" in lines[1]
    assert "50.0 %" in lines[2]
    assert "25.0 %" in lines[3]
    assert (
        "resnet20, 32 images per worker, fp32, synthetic:size=8; efficiency against 1 worker, median of 3 rounds" in lines[-1]
    )


def test_a_step_is_shown_in_parts_with_the_whole(tmp_path):
    lines = as_text(study(tmp_path / "study")).splitlines()
    start = lines.index("where a step goes, in ms:")
    assert lines[start + 1].split()[2:7] == list(PARTS)
    numbers = [float(word) for word in lines[start + 4].split()[2:]]
    assert sum(numbers[:5]) == pytest.approx(numbers[5], abs=0.3)
    assert numbers[5:] == [10.8, 7.0]


def test_markdown_has_the_same_cells_as_the_text(tmp_path):
    content = study(tmp_path / "study", ("torch", 2))
    text, lines = as_text(content), as_markdown(content).splitlines()
    table = [cells(line) for line in lines if line.startswith("|")]
    assert lines[0] == "# study"
    assert table[0] == list(HEADER)
    assert {len(row) for row in table[:5]} == {len(HEADER)}
    assert [row[:3] for row in table[2:5]] == [["torch", "1", "3,200.0"], ["torch", "2", "failed"], ["torch", "4", "3,200.0"]]
    assert all(cell in text for row in table if row[0] != "---" for cell in row)
    assert "- torch with 2 failed: exit code 4: too few | images" in lines


def test_csv_has_every_number_in_full(tmp_path):
    content = study(tmp_path / "study", ("tensorflow", 4), **TWO)
    rows = list(csv.DictReader(io.StringIO(as_csv(content))))
    assert [(row["framework"], row["workers"], row["status"]) for row in rows] == [
        (size["framework"], str(size["workers"]), size["status"]) for size in content["sizes"]
    ]
    for row, size in zip(rows[:5], content["sizes"], strict=False):
        assert float(row["images_per_second"]) == size["images_per_second"]
        assert float(row["step_ms_p90"]) == size["step_ms"]["p90"]
        assert [float(row["efficiency"]), float(row["efficiency_low"])] == [size["efficiency"], size["efficiency_interval"][0]]
        assert {part: float(row[f"{part}_ms"]) for part in PARTS} == size["parts_ms"]
        assert (row["oversubscribed"], row["error"]) == ("False", "")
    assert rows[0]["allreduce_ms"] == ""
    assert (rows[5]["error"], rows[5]["efficiency"], rows[5]["compute_ms"]) == ("exit code 4: too few | images", "", "")


@pytest.mark.parametrize("write", [as_text, as_markdown])
def test_sizes_without_baseline_have_no_efficiency(tmp_path, write):
    written = write(study(tmp_path / "study", ("torch", 1)))
    assert "3,200.0" in written
    assert "%" not in written.splitlines()[3]


def test_a_study_without_any_result_has_no_parts(tmp_path):
    content = study(tmp_path / "study", *(("torch", workers) for workers in (1, 2, 4)))
    assert "where a step goes" not in as_text(content)
    assert "Where a step goes" not in as_markdown(content)
    assert as_text(content).count("too few | images") == 3


def test_sizes_still_to_come_are_pending(tmp_path):
    content = study(tmp_path / "study")
    content["sizes"][2] = {"framework": "torch", "workers": 4, "status": "pending", "error": None, "repeats": []}
    assert "pending" in as_text(content)
    assert as_csv(content).splitlines()[3].startswith("torch,4,pending,,")


def test_oversubscribed_figures_are_marked_everywhere(tmp_path):
    content = study(tmp_path / "study", oversubscribed=True)
    for written in (as_text(content), as_markdown(content)):
        assert "NOT a scaling figure: more workers than slots" in written
    assert {row["oversubscribed"] for row in csv.DictReader(io.StringIO(as_csv(content)))} == {"True"}
    assert "NOT a scaling figure" not in as_text(study(tmp_path / "other"))


def picture(content, folder):
    from PIL import Image

    plot(content, folder / "bench.png")
    with Image.open(folder / "bench.png") as image:
        return image.convert("RGB").copy()


@pytest.mark.parametrize(
    "gpus, frameworks, failed",
    [
        ((1,), ("torch",), ()),
        ((4, 2), ("tensorflow",), ()),
        ((1, 2), ("torch", "tensorflow"), ()),
        ((1, 2, 4, 8), ("torch", "tensorflow"), [("torch", 1), ("tensorflow", 8)]),
        (tuple(2**power for power in range(9)), ("torch", "tensorflow"), ()),
        (tuple(range(1, 17)), ("torch",), [("torch", 3)]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_the_picture_has_a_line_a_framework(tmp_path, gpus, frameworks, failed):
    image = picture(study(tmp_path / "study", *failed, gpus=gpus, frameworks=frameworks, baseline=min(gpus)), tmp_path)
    assert image.size == (1500, 660)
    colours = {colour for _, colour in image.getcolors(1 << 20)}
    drawn = {"torch": (0xC4, 0x50, 0x1B) in colours, "tensorflow": (0x1B, 0x6A, 0xC4) in colours}
    assert drawn == {name: name in frameworks for name in drawn}


@pytest.mark.filterwarnings("error")
def test_nothing_measured_is_a_picture_too(tmp_path):
    assert picture(study(tmp_path / "study", ("torch", 2), gpus=(2,), baseline=2), tmp_path).size == (1500, 660)
