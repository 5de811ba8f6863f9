import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from lbsgd.cli import cli
from lbsgd.data import open_dataset
from lbsgd.data.demo import write_demo
from lbsgd.data.digits import IMAGES
from lbsgd.errors import EnvironmentNotReady, UsageError


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lbsgd(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    script = Path(sys.executable).parent / "lbsgd"
    return subprocess.run([script, *map(str, arguments)], capture_output=True, text=True, env=os.environ | environment)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "new parent" / "digits"
    assert write_demo(folder)
    return folder


def test_it_holds_all_of_scikit_learns_digits(demo):
    """Each file's number is the sample's; 0..16 became 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    paths = sorted(demo.rglob("*.png"), key=lambda path: path.name)
    assert [int(path.stem) for path in paths] == list(range(1797))
    assert [int(path.parent.name) for path in paths] == digits.target.tolist()
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    np.testing.assert_allclose(images / 255 * 16, digits.images, atol=0.04)


def test_every_class_is_divided_four_to_one(demo):
    dataset = open_dataset(str(demo))
    assert (len(dataset.train), len(dataset.validation)) == IMAGES
    assert dataset.train.classes == tuple("0123456789")
    assert dataset.train.read(0).shape == (8, 8, 3)
    train, validation = np.bincount(dataset.train.labels), np.bincount(dataset.validation.labels)
    np.testing.assert_array_equal(validation, (train + validation) // 5)


def test_it_is_the_same_every_time_and_left_alone_when_there(demo, tmp_path):
    (tmp_path / "empty").mkdir()
    assert write_demo(tmp_path / "empty")
    before = contents(demo)
    assert contents(tmp_path / "empty") == before
    (demo / "train/0").touch()
    assert not write_demo(demo)
    assert contents(demo) == before


def test_nothing_is_left_beside_it(demo):
    assert [path.name for path in demo.parent.iterdir()] == ["digits"]


def test_a_folder_with_something_else_is_refused_and_kept(tmp_path):
    (tmp_path / "thesis.txt").write_text("the only copy")
    with pytest.raises(UsageError, match="is not empty"):
        write_demo(tmp_path)
    assert contents(tmp_path) == {"thesis.txt": b"the only copy"}


def test_a_demo_that_lost_a_file_is_not_taken_for_whole(tmp_path):
    write_demo(tmp_path / "digits")
    next((tmp_path / "digits/val/7").iterdir()).unlink()
    with pytest.raises(UsageError, match="is not empty"):
        write_demo(tmp_path / "digits")


@pytest.mark.parametrize("place", ["file", "file/digits", "/proc/digits"])
def test_a_place_that_cannot_be_written_to(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentNotReady, match="cannot write .*digits|cannot write .*file") as caught:
        write_demo(tmp_path / place)
    assert "\n" not in str(caught.value)


def test_a_failure_on_the_way_leaves_nothing(tmp_path):
    """The limit on file sizes stands in for a full disk."""
    code = (
        "import resource, signal; from pathlib import Path; from lbsgd.data.demo import write_demo;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20));"
        f"write_demo(Path({str(tmp_path / 'digits')!r}))"
    )
    result = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True)
    assert "EnvironmentNotReady: cannot write" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_scikit_learn_the_way_out_is_named(tmp_path):
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/sklearn.py").write_text("raise ImportError('No module named sklearn')")
    result = lbsgd("data", "demo", tmp_path / "digits", PYTHONPATH=str(tmp_path / "hidden"))
    assert result.returncode == 3
    assert "pip install 'lbsgd[demo]'" in result.stderr
    assert not (tmp_path / "digits").exists()


def test_the_command_tells_what_it_made(tmp_path):
    first = lbsgd("data", "demo", tmp_path / "digits")
    again = lbsgd("data", "demo", tmp_path / "digits")
    assert (first.returncode, again.returncode) == (0, 0)
    assert "wrote 1442 images to train on, 355 to validate" in first.stdout
    assert "already" in again.stdout


def test_the_command_as_json(demo):
    result = CliRunner().invoke(cli, ["data", "demo", str(demo), "--json"])
    assert json.loads(result.stdout) == {
        "folder": str(demo),
        "created": False,
        "train": 1442,
        "validation": 355,
        "classes": 10,
    }


def test_a_refusal_has_the_exit_code_of_wrong_usage(tmp_path):
    (tmp_path / "thesis.txt").write_text("the only copy")
    result = lbsgd("data", "demo", tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
