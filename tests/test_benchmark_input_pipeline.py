import json
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
TINY = ("--images=48", "--batch=16", "--rounds=1", "--pixel-images=5", "--startup-samples=4000",
        "--memory-images=32", "--memory-epochs=2")  # fmt: skip


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict:
    """Of the whole script at its smallest."""
    folder = tmp_path_factory.mktemp("benchmark")
    command = [sys.executable, BENCHMARKS / "input_pipeline.py", *TINY, "--json", folder / "report.json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "report.json").read_text()) | {"stdout": done.stdout}


def test_it_says_what_it_measured_and_where(report):
    assert report["settings"]["rounds"] == 1
    assert report["data"]["images"] == 48
    assert report["environment"]["cores"] >= 2
    assert {"lbsgd", "pillow", "torch", "tensorflow"} <= set(report["speed"]["versions"])
    assert "48 JPEG files" in report["stdout"]


def test_a_contestant_whose_library_is_missing_is_left_out_and_named(tmp_path):
    command = [sys.executable, "-S", BENCHMARKS / "input_contestant.py", "input_tfdata", tmp_path, "4", "0"]
    done = subprocess.run(list(map(str, command)), input="", capture_output=True, text=True)
    assert json.loads(done.stdout)["left_out"].startswith("No module named")


def test_ratios_follow_from_the_raw_seconds(report):
    speed = report["speed"]
    (only,) = speed["rounds"]
    seconds = only["seconds"]
    assert sorted(only["order"]) == sorted(seconds) == sorted(speed["images_per_second"])
    for name, rate in speed["images_per_second"].items():
        assert rate == pytest.approx(speed["images_per_turn"] / seconds[name])
    assert set(speed["ratios"]) == {"pillow", "pillow_uint8", "tfdata", "tfdata_uniform"}
    for name, ratio in speed["ratios"].items():
        assert ratio["median"] == pytest.approx(seconds[name] / seconds["lbsgd"])
    assert speed["two_cores"]["median"] == pytest.approx(seconds["lbsgd"] / seconds["lbsgd_2_cores"])


def test_processor_time_is_that_of_the_turn(report):
    """One core gives no more than a second a second; whoever waits gets less."""
    (only,) = report["speed"]["rounds"]
    for name, seconds in only["seconds"].items():
        cores = 2 if name == "lbsgd_2_cores" else 1
        assert 0 < only["processor_seconds"][name] < cores * seconds * 1.05 + 0.02


def test_pixels_are_near_and_not_shifted(report):
    pixels = report["pixels"]
    assert pixels["images"] == 5
    assert pixels["mean"] <= pixels["p99"] <= pixels["max"]
    assert pixels["mean"] < pixels["target_mean"]
    assert pixels["peak"] == [0, 0]
    assert np.shape(pixels["correlations"]) == (5, 5)


def test_memory_is_reported_for_each_epoch(report):
    memory = report["memory"]
    assert len(memory["megabytes_after_epoch"]) == memory["epochs"] == 2
    first, last = memory["megabytes_after_epoch"]
    assert memory["growth_megabytes"] == pytest.approx(last - first)
    assert first > 10


def test_start_up_is_that_of_an_index_that_was_kept(report):
    startup = report["startup"]
    assert startup["samples"] == 4000
    assert startup["median_seconds"] == median(startup["seconds"])
    assert len(startup["seconds"]) == 5


def test_a_shift_would_be_seen(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from input_pixels import shifted_correlations, vertex

    rng = np.random.default_rng(0)
    image = np.kron(rng.normal(size=(12, 12)), np.ones((4, 4))).astype(np.float32)
    correlations = shifted_correlations(image, np.roll(image, (1, -2), axis=(0, 1)))
    assert np.unravel_index(np.argmax(correlations), (5, 5)) == (3, 0)
    half = (image + np.roll(image, 1, axis=0)) / 2
    assert vertex(shifted_correlations(image, half)[:, 2]) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "shape, dtype", [((4, 224, 223, 3), "uint8"), ((4, 224, 224, 3), "float32"), ((3, 224, 224, 3), "uint8")]
)
def test_a_contestant_that_makes_something_else_fails(tmp_path, shape, dtype):
    (tmp_path / "wrong.py").write_text(
        "import numpy as np\nVERSIONS = {}\nIMAGE = ((224, 224, 3), 'uint8')\n"
        f"def batches(folder, batch, threads):\n    while True: yield np.zeros({shape}, '{dtype}')\n"
    )
    command = [sys.executable, BENCHMARKS / "input_contestant.py", "wrong", tmp_path, "4", "0"]
    done = subprocess.run(command, input="1\n", capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)})
    assert json.loads(done.stdout) == {"versions": {}}
    assert done.returncode == 1
    assert "and should be uint8 (4, 224, 224, 3)" in done.stderr


def test_a_contestant_that_ends_is_named_with_its_reason(tmp_path, monkeypatch):
    """The folder it shall read is empty."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import input_speed

    from lbsgd.errors import EnvironmentNotReady

    with (
        pytest.raises(EnvironmentNotReady, match="the contestant lbsgd ended: .*has no train/"),
        input_speed.start("lbsgd", tmp_path, 4, [0]) as contestant,
    ):
        contestant.answer()
