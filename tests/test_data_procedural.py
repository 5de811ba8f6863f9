import io
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from lbsgd.data import open_dataset
from lbsgd.data.photo import photo
from lbsgd.data.procedural import write_photos
from lbsgd.errors import EnvironmentNotReady, UsageError


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    return [photo("train", number, classes=100, seed=0) for number in range(400)]


@pytest.fixture(scope="module")
def sizes(photos) -> np.ndarray:
    """int [400, 2], height and width."""
    return np.array([simplejpeg.decode_jpeg_header(data)[:2] for data in photos])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "new parent" / "photos"
    write_photos(folder, train=22, val=12, classes=11, threads=1)
    return folder


def test_a_file_takes_as_many_bytes_as_one_of_imagenet(photos):
    """ImageNet's: 113,000 in the mean. A few large photographs move the mean of 400 images, hence the room."""
    sizes = np.array([len(data) for data in photos])
    assert 95_000 < sizes.mean() < 130_000
    assert 80_000 < np.median(sizes) < 115_000
    assert np.quantile(sizes, 0.05) > 5_000
    assert sizes.max() > 300_000


def test_most_images_have_500_pixels_and_few_have_many_more(sizes):
    height, width = sizes.T
    assert 440 < width.mean() < 500
    assert 370 < height.mean() < 440
    longer = sizes.max(axis=1)
    assert 0.7 < (longer == 500).mean() < 0.86
    assert 0.005 < (longer >= 1024).mean() < 0.06
    assert 0.04 < (longer < 400).mean() < 0.2
    assert 0.6 < (width > height).mean() < 0.8
    commonest = Counter(map(tuple, sizes.tolist())).most_common(2)
    assert [size for size, _ in commonest] == [(375, 500), (333, 500)]


def test_most_files_are_coloured_and_not_subsampled(photos):
    headers = [simplejpeg.decode_jpeg_header(data)[2:] for data in photos]
    share = {sampling: np.mean([header[1] == sampling for header in headers]) for sampling in ("444", "420", "Gray")}
    assert sum(share.values()) == 1
    assert 0.75 < share["444"] < 0.9
    assert 0.08 < share["420"] < 0.22
    assert 0 < share["Gray"] < 0.06


def test_amplitude_falls_with_frequency_as_in_photographs(photos, sizes):
    """As frequency to the power of -1 to -1.5, over all images of the commonest size."""
    pixels = [simplejpeg.decode_jpeg(data, "Gray")[:, :, 0] for data in np.array(photos, object)[(sizes == (375, 500)).all(1)]]
    window = np.outer(np.hanning(256), np.hanning(256))
    spectra = [np.abs(np.fft.fft2((image[:256, :256] - image.mean()) * window)) ** 2 for image in pixels]
    amplitude = np.sqrt(np.mean(spectra, axis=0))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    middle = (frequency > 4 / 256) & (frequency < 0.4)
    slope, _ = np.polyfit(np.log(frequency[middle]), np.log(amplitude[middle]), 1)
    assert -1.6 < slope < -1.0


def test_a_class_can_be_told_by_its_colours():
    """The nearest mean colour histogram of the training images is right far more often than a guess, 1 in 10."""

    def histogram(split: str, number: int) -> np.ndarray:
        data = photo(split, number, classes=10, seed=3)
        pixels = simplejpeg.decode_jpeg(data, min_height=1, min_width=1, min_factor=8)
        return np.histogramdd(pixels.reshape(-1, 3), bins=4, range=[(0, 256)] * 3, density=True)[0].ravel()

    means = np.mean([[histogram("train", 10 * k + label) for label in range(10)] for k in range(10)], axis=0)
    right = [np.argmin(np.abs(means - histogram("val", number)).sum(axis=1)) == number % 10 for number in range(50)]
    assert np.mean(right) > 0.4


def test_validation_seeds_and_numbers_are_different_draws():
    draws = {photo(split, number, classes=2, seed=seed) for split in ("train", "val") for number in (0, 2) for seed in (0, 1)}
    assert len(draws) == 8


def test_open_dataset_reads_it(folder):
    dataset = open_dataset(str(folder))
    assert (len(dataset.train), len(dataset.validation)) == (22, 12)
    assert dataset.train.classes == tuple(f"class{label:02}" for label in range(11))
    assert np.bincount(dataset.train.labels).tolist() == [2] * 11
    assert np.bincount(dataset.validation.labels).tolist() == [2] + [1] * 10
    for part in (dataset.train, dataset.validation):
        assert all(part.read(index).shape[2] == 3 for index in range(len(part)))


def test_the_number_of_threads_changes_no_byte(folder, tmp_path):
    write_photos(tmp_path / "photos", train=22, val=12, classes=11, threads=5)
    assert contents(tmp_path / "photos") == contents(folder)


def test_pillow_reads_the_same_pixels(photos):
    difference = [
        np.abs(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int) - simplejpeg.decode_jpeg(data)).mean()
        for data in photos[:10]
    ]
    assert max(difference) < 1


def test_nothing_is_left_beside_it(folder):
    assert [path.name for path in folder.parent.iterdir()] == ["photos"]


def test_a_folder_with_something_in_it_is_refused_and_kept(tmp_path):
    (tmp_path / "thesis.txt").write_text("the only copy")
    with pytest.raises(UsageError, match="not empty; name a new or an empty folder"):
        write_photos(tmp_path, train=2, val=2, classes=2)
    assert contents(tmp_path) == {"thesis.txt": b"the only copy"}


@pytest.mark.parametrize("numbers", [(1, 2, 2), (2, 1, 2), (5, 5, 1), (5, 5, 0)])
def test_numbers_that_make_no_data_set(tmp_path, numbers):
    train, val, classes = numbers
    with pytest.raises(UsageError, match=f"{train} training and {val} validation images cannot be dealt to {classes} classes"):
        write_photos(tmp_path / "photos", train=train, val=val, classes=classes)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentNotReady, match="cannot write .*file/photos"):
        write_photos(tmp_path / "file/photos", train=2, val=2, classes=2)


def test_a_failure_on_the_way_ends_all_threads_and_leaves_nothing(tmp_path):
    """The limit on file sizes stands in for a full disk; writing all of these images would take minutes."""
    code = (
        "import resource, signal; from pathlib import Path; from lbsgd.data.procedural import write_photos;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
        f"write_photos(Path({str(tmp_path / 'photos')!r}), train=100_000, val=2, classes=2, threads=2)"
    )
    command = [sys.executable, "-B", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "EnvironmentNotReady: cannot write" in result.stderr
    assert list(tmp_path.iterdir()) == []
