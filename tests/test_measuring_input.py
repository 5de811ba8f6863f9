"""`lbsgd bench input` on real files; what it measures is not tested, how its figures hang together is."""

import json
import shutil

import pytest

from lbsgd.data.procedural import write_photos

QUICK = ("--seconds", 0.3, "--batch", 8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """More than is kept in memory."""
    folder = tmp_path_factory.mktemp("photos") / "photos"
    write_photos(folder, train=90, val=4, classes=2, seed=0)
    return folder


def test_the_report_holds_together(lbsgd, photos):
    result = lbsgd("bench", "input", "--data", photos, "--threads", 2, *QUICK, "--feed", 1, "--json")
    assert result.code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["samples"], report["threads"], report["size"]) == (90, 2, 224)
    assert set(report["stage_ms"]) == {"read", "decode", "resize", "assemble"}
    assert all(milliseconds > 0 for milliseconds in report["stage_ms"].values())
    assert report["stage_ms"]["decode"] > report["stage_ms"]["assemble"]
    assert report["per_core"] > 0 and report["per_process"] > 0
    assert report["feed"] == {"images_per_second": 1.0, "keeps_up": True, "cores_needed": 1}


def test_what_cannot_be_fed_is_said(lbsgd, photos):
    result = lbsgd("bench", "input", "--data", photos, *QUICK, "--feed", 1e6)
    assert "this process does NOT keep up" in result.stdout
    assert "decode" in result.stdout


def test_images_that_never_were_encoded_have_no_decode_stage(lbsgd):
    spec = "synthetic:train=100,val=10,classes=2,size=32"
    report = json.loads(lbsgd("bench", "input", "--data", spec, *QUICK, "--json").stdout)
    assert report["stage_ms"]["decode"] == 0


def test_an_unreadable_image_is_a_data_error(lbsgd, photos, tmp_path):
    copy = shutil.copytree(photos, tmp_path / "copy")
    for image in (copy / "train").rglob("*.JPEG"):
        image.write_bytes(b"")
    result = lbsgd("bench", "input", "--data", copy, *QUICK)
    assert result.code == 4
    assert "is empty" in result.stderr and "Traceback" not in result.stderr
