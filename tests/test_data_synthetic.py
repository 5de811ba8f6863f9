import numpy as np
import pytest

from lbsgd.data import open_dataset
from lbsgd.errors import UsageError


def test_by_default_it_has_imagenets_numbers():
    dataset = open_dataset("synthetic")
    assert (len(dataset.train), len(dataset.validation)) == (1_281_167, 50_000)
    assert dataset.train.classes == dataset.validation.classes
    assert len(dataset.train.classes) == 1000
    assert dataset.train.read(1_281_166).shape == (224, 224, 3)


def test_the_numbers_asked_for():
    train = open_dataset("synthetic:train=100,val=7,classes=3,size=5").train
    assert train.labels.tolist() == [index % 3 for index in range(100)]
    images = np.stack([train.read(index) for index in range(100)])
    assert images.shape == (100, 5, 5, 3)
    assert images.dtype == np.uint8
    assert len(np.unique(images, axis=0)) == 64
    assert abs(images.mean() - 127.5) < 5


def test_it_is_the_same_every_time_and_differs_where_it_should():
    one, again = (open_dataset("synthetic:train=9,val=9,size=8") for _ in range(2))
    np.testing.assert_array_equal(one.train.read(5), again.train.read(5))
    assert one.train.digest == again.train.digest != one.validation.digest
    assert (one.train.read(5) != one.validation.read(5)).any()
    assert one.train.digest != open_dataset("synthetic:train=8,val=9,size=8").train.digest


@pytest.mark.parametrize("shape", ["size", "size=", "size=0", "size=-1", "depth=3", "size=8,", "train=1e3", "=4"])
def test_what_it_cannot_have_is_refused(shape):
    with pytest.raises(UsageError, match="synthetic:train=1024,val=128,classes=10,size=32"):
        open_dataset(f"synthetic:{shape}")
