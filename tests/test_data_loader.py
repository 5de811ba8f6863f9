import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lbsgd.data import open_dataset
from lbsgd.data.augmentation import evaluation_image, training_image
from lbsgd.data.batch import Batch, Reading, Share
from lbsgd.data.loader import CHUNK, evaluation_batches, training_batches
from lbsgd.data.synthetic import SyntheticSource
from lbsgd.errors import DataError
from lbsgd.policy.order import Order
from lbsgd.policy.recipe import Images

SETTINGS = Images(kind="small", size=8, padding=1, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
SOURCE = SyntheticSource(samples=50, classes=7, size=8, seed=0)
ORDER = Order(seed=3, samples=50, global_batch=12)


def train(source=SOURCE, rank=0, world_size=1, start=0, stop=10, threads=2, **options):
    return training_batches(source, SETTINGS, ORDER, Share(rank, world_size), range(start, stop), Reading(threads), **options)


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left.images, right.images)
        np.testing.assert_array_equal(left.labels, right.labels)


def copies(batches: Iterable[Batch]) -> list[Batch]:
    """All batches; without copying, later ones would be written over earlier ones."""
    return [replace(batch, images=batch.images.copy()) for batch in batches]


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("lbsgd-data")]


class SlowSource(SyntheticSource):
    """Counts what was read, 5 ms each, and how many reads there were at the same time."""

    reads = now = most_at_once = 0
    counting = threading.Lock()

    def read(self, index, choose=None):
        with self.counting:
            self.reads += 1
            self.now += 1
            self.most_at_once = max(self.most_at_once, self.now)
        time.sleep(0.005)
        with self.counting:
            self.now -= 1
        return super().read(index, choose)


def test_batches_are_the_orders_samples_augmented():
    for iteration, batch in enumerate(train()):
        samples = ORDER.samples_of(iteration)
        expected = [training_image(SOURCE, sample, SETTINGS, seed=3, epoch=iteration // 4) for sample in samples.tolist()]
        np.testing.assert_array_equal(batch.images, np.stack(expected))
        assert batch.images.flags.c_contiguous
        assert (batch.images.dtype, batch.labels.dtype) == (np.uint8, np.int64)
        assert batch.labels.tolist() == (samples % 7).tolist()
        assert batch.valid == 12
    assert iteration == 9


@pytest.mark.parametrize("world_size", [2, 3, 4, 12])
def test_any_number_of_ranks_sees_the_same_global_batches(world_size):
    ranks = [copies(train(rank=rank, world_size=world_size)) for rank in range(world_size)]
    together = [
        Batch(np.concatenate([b.images for b in row]), np.concatenate([b.labels for b in row]), 12)
        for row in zip(*ranks, strict=True)
    ]
    assert_same(together, copies(train()))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_samples_of_a_run_are_the_same_for_all_ranks_and_after_any_crash(data):
    """Each sample is a class, so labels tell which were read. A run crashes somewhere and is resumed on other ranks."""
    samples = data.draw(st.integers(1, 60), "samples")
    global_batch = data.draw(st.integers(1, samples), "global batch")
    order = Order(data.draw(st.integers(0, 9), "seed"), samples, global_batch)
    source = SyntheticSource(samples, classes=samples, size=8, seed=0)
    stop = 3 * order.iterations_per_epoch
    crash = data.draw(st.integers(0, stop), "crash")
    divisors = [count for count in range(1, global_batch + 1) if global_batch % count == 0]
    before, after = (data.draw(st.sampled_from(divisors), "ranks") for _ in range(2))

    def read(world_size: int, start: int, end: int) -> list[list[int]]:
        how = range(start, stop), Reading(2)
        log = []
        with ExitStack() as stack:
            ranks = [training_batches(source, SETTINGS, order, Share(rank, world_size), *how) for rank in range(world_size)]
            for rank in ranks:
                stack.enter_context(closing(rank))
            for _ in range(start, end):
                log.append([label for rank in ranks for label in next(rank).labels.tolist()])
        return log

    log = read(before, 0, crash) + read(after, crash, stop)
    assert log == [order.samples_of(iteration).tolist() for iteration in range(stop)]
    for epoch in range(3):
        taken = sum(log[epoch * order.iterations_per_epoch : (epoch + 1) * order.iterations_per_epoch], [])
        assert len(set(taken)) == len(taken) == order.iterations_per_epoch * global_batch


@pytest.mark.parametrize("threads, prefetch", [(1, 0), (1, 3), (5, 1), (3, 20)])
def test_threads_and_prefetch_change_nothing(threads, prefetch):
    assert_same(copies(train(threads=threads, prefetch=prefetch)), copies(train()))


def test_a_run_may_start_in_the_middle():
    assert_same(copies(train(start=6)), copies(train())[6:])
    assert copies(train(start=10)) == []


@pytest.mark.parametrize("samples, world_size, batch", [(50, 1, 8), (50, 3, 8), (48, 2, 8), (3, 5, 4), (1, 1, 1)])
def test_every_validation_image_is_evaluated_once(samples, world_size, batch):
    source = SyntheticSource(samples, classes=samples, size=8, seed=0)
    seen = []
    for rank in range(world_size):
        batches = copies(evaluation_batches(source, SETTINGS, batch, Share(rank, world_size), Reading(2)))
        for one in batches:
            assert one.images.shape == (batch, 8, 8, 3)
            assert one.labels.shape == (batch,)
            for image, label in zip(one.images[: one.valid], one.labels[: one.valid].tolist(), strict=True):
                np.testing.assert_array_equal(image, evaluation_image(source, label, SETTINGS))
            assert not one.images[one.valid :].any()
            seen += one.labels[: one.valid].tolist()
        assert all(one.valid == batch for one in batches[:-1])
    assert sorted(seen) == list(range(samples))


def broken_folder(root: Path) -> Path:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for number in range(25):
                Image.new("RGB", (8, 8)).save(root / split / name / f"{number}.png")
    (root / "train/dog/13.png").write_text("a note, not an image\n")
    (root / "val/cat/9.png").write_bytes(b"")
    return root


def test_an_unreadable_image_is_reported_by_name_and_ends_the_threads(tmp_path):
    dataset = open_dataset(str(broken_folder(tmp_path)))
    with pytest.raises(DataError, match=r"train/dog/13\.png.*not an image"):
        copies(train(dataset.train))
    with pytest.raises(DataError, match=r"val/cat/9\.png.*empty"):
        list(evaluation_batches(dataset.validation, SETTINGS, 8, Share(), Reading(2)))
    assert readers() == []


def test_batches_before_an_unreadable_image_are_delivered(tmp_path):
    dataset = open_dataset(str(broken_folder(tmp_path)))
    batches = evaluation_batches(dataset.validation, SETTINGS, 8, Share(), Reading(2))
    assert [next(batches).valid for _ in range(3)] == [8, 8, 8]
    with pytest.raises(DataError):
        next(batches)


def test_closing_early_stops_the_threads_at_once():
    source = SlowSource(50, 7, 8, 0)
    with closing(train(source, stop=10**6, prefetch=50)) as batches:
        next(batches)
        assert len(readers()) == 2
        read = source.reads
    assert source.reads <= read + 2 * CHUNK  # what the two threads had begun, of 50 batches that they might make
    assert readers() == []


def test_no_thread_runs_before_the_first_batch_or_after_the_last():
    batches = train()
    assert readers() == []
    list(batches)
    assert readers() == []


def test_reading_ahead_is_bounded():
    source = SlowSource(50, 7, 8, 0)
    with closing(train(source, prefetch=2)) as batches:
        next(batches)
        time.sleep(0.5)
        assert source.reads == 3 * 12


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_read_at_the_same_time(threads):
    source = SlowSource(50, 7, 8, 0)
    copies(train(source, threads=threads))
    assert source.most_at_once == threads
