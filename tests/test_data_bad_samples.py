"""Images that cannot be read: who notices, what takes their place, and when it is too much."""

import threading
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbsgd.data.bad_samples import BadSamplePolicy, BadSamples, TooManyBadSamples, exchange, substitutes
from lbsgd.data.batch import Reading, Share
from lbsgd.data.loader import evaluation_batches, training_batches
from lbsgd.data.source import UnreadableSample
from lbsgd.data.synthetic import SyntheticSource
from lbsgd.errors import UsageError
from lbsgd.policy.order import Order
from lbsgd.policy.recipe import Images

SETTINGS = Images(kind="small", size=8, padding=1, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
SAMPLES = 60
ORDER = Order(seed=3, samples=SAMPLES, global_batch=12)


class Damaged(SyntheticSource):
    """Each sample is a class of its own; those in `bad` cannot be read, those in `blocking` not before `release`."""

    def __init__(self, bad=(), blocking=()) -> None:
        super().__init__(SAMPLES, classes=SAMPLES, size=8, seed=0)
        self.bad, self.blocking, self.release = set(bad), set(blocking), threading.Event()

    def read(self, index, choose=None):
        if index in self.blocking:
            self.release.wait()
        if index in self.bad:
            raise UnreadableSample(self.name(index), "it is damaged")
        return super().read(index, choose)


REPLACE = BadSamplePolicy(replace=True)


def replacing(limit: int | None = None) -> BadSamples:
    return BadSamples(BadSamplePolicy(replace=True, limit=limit))


def labels(source, bad_samples, rank=0, world_size=1, start=0, stop=10, threads=2, timeout=60) -> list[list[int]]:
    what = source, SETTINGS, ORDER, Share(rank, world_size), range(start, stop), Reading(threads, timeout)
    batches = training_batches(*what, bad_samples=bad_samples)
    return [batch.labels.tolist() for batch in batches]


@pytest.mark.parametrize(
    "text, policy",
    [("fail", BadSamplePolicy(False)), ("replace", BadSamplePolicy(True)), ("replace:3", BadSamplePolicy(True, 3))],
)
def test_the_policy_is_read_and_written(text, policy):
    assert BadSamplePolicy.parse(text) == policy
    assert str(policy) == text


@pytest.mark.parametrize("text", ["", "Fail", "fail:3", "replace:", "replace:-1", "replace:x", "replace 3"])
def test_other_policies_are_refused(text):
    with pytest.raises(UsageError, match="fail, replace, or replace:N"):
        BadSamplePolicy.parse(text)


def test_a_bad_sample_is_replaced_by_a_readable_one_and_the_others_stay():
    bad = {5, 17, 44}
    bad_samples = replacing()
    replaced = labels(Damaged(bad), bad_samples)
    for iteration, found in enumerate(replaced):
        for sample, label in zip(ORDER.samples_of(iteration).tolist(), found, strict=True):
            expected = next(other for other in substitutes(sample, SAMPLES, 3) if other not in bad) if sample in bad else sample
            assert label == expected
    assert set(bad_samples.known) == bad
    assert set(bad_samples.take_new()) == bad
    assert bad_samples.take_new() == {}


@settings(max_examples=25, deadline=None)
@given(
    bad=st.sets(st.integers(0, SAMPLES - 1), max_size=20),
    world_size=st.sampled_from([1, 2, 3, 4]),
    start=st.integers(0, 9),
    threads=st.integers(1, 3),
)
def test_substitutes_depend_neither_on_the_ranks_nor_on_the_start(bad, world_size, start, threads):
    whole = labels(Damaged(bad), replacing())
    ranks = [labels(Damaged(bad), replacing(), rank, world_size, start, threads=threads) for rank in range(world_size)]
    assert [sum(row, []) for row in zip(*ranks, strict=True)] == whole[start:]


def test_what_another_rank_found_is_not_tried_again():
    source = Damaged()
    bad_samples = replacing()
    bad_samples.learn({5: ("five", "it is damaged")})
    assert 5 not in sum(labels(source, bad_samples), [])
    assert bad_samples.take_new() == {}


def test_where_nothing_is_readable_replacing_ends():
    with pytest.raises(UnreadableSample, match="it is damaged"):
        labels(Damaged(range(SAMPLES)), replacing())


def test_bad_validation_images_are_left_out_and_nothing_takes_their_place():
    bad = {0, 5, 6, 59}
    for world_size in (1, 3):
        seen = []
        for rank in range(world_size):
            what = Damaged(bad), SETTINGS, 8, Share(rank, world_size), Reading(2, bad_samples=REPLACE)
            for batch in evaluation_batches(*what):
                seen += batch.labels[: batch.valid].tolist()
                assert batch.images.shape == (8, 8, 8, 3)
                assert not batch.images[batch.valid :].any()
        assert sorted(seen) == sorted(set(range(SAMPLES)) - bad)


def test_a_blocked_read_is_named_while_it_is_blocked_and_does_not_keep_the_threads():
    source = Damaged(blocking={7})
    with pytest.raises(UnreadableSample, match="synthetic image 7.*not ended within 0.3 s"):
        labels(source, BadSamples(BadSamplePolicy(False)), timeout=0.3)
    source.release.set()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_blocked_read_is_replaced_like_any_bad_sample(threads):
    source = Damaged(blocking={7, 30})
    blocked = labels(source, replacing(), threads=threads, timeout=0.2)
    assert blocked == labels(Damaged({7, 30}), replacing())
    source.release.set()


def test_a_read_that_ends_late_changes_no_batch():
    source = Damaged(blocking={7})
    how = SETTINGS, ORDER, Share(), range(30)
    with (
        closing(training_batches(source, *how, Reading(2, 0.2, REPLACE))) as batches,
        closing(training_batches(Damaged({7}), *how, Reading(2, 60, REPLACE))) as expected,
    ):
        for number, (batch, right) in enumerate(zip(batches, expected, strict=True)):
            np.testing.assert_array_equal(batch.images, right.images)
            if number == 6:
                source.release.set()


class Ranks:
    """A world of one rank that gets to hear what the others say."""

    def __init__(self, *others: dict) -> None:
        self.others = others

    def gather(self, value):
        return [value, *self.others]


def test_ranks_tell_each_other_and_stop_together_past_the_limit():
    bad_samples = replacing(limit=2)
    bad_samples.report(3, UnreadableSample("three", "it is damaged"))
    assert set(exchange(Ranks({8: ("eight", "empty")}), bad_samples)) == {3, 8}
    assert exchange(Ranks({8: ("eight", "empty")}), bad_samples) == {8: ("eight", "empty")}
    with pytest.raises(TooManyBadSamples, match="3 images cannot be read, --bad-samples replace:2 allows 2.*'three'"):
        exchange(Ranks({9: ("nine", "empty")}), bad_samples)


def test_buffers_are_used_again_but_not_too_soon():
    what = Damaged(), SETTINGS, ORDER, Share(), range(40), Reading(3)
    made = []

    def allocate(shape):
        made.append(np.full(shape, 255, np.uint8))
        return made[-1]

    before = None
    for batch in training_batches(*what, allocate=allocate, prefetch=2):
        if before is not None:  # the batch before the one in use must still be whole
            np.testing.assert_array_equal(before[0].images, before[1])
        before = (batch, batch.images.copy())
    assert len(made) == 2 + 2


def test_memory_bounds_reading_ahead(monkeypatch):
    monkeypatch.setattr("lbsgd.data.loader.PREFETCH_BYTES", 12 * 8 * 8 * 3)
    made = []

    def allocate(shape):
        made.append(shape)
        return np.empty(shape, np.uint8)

    for _ in training_batches(Damaged(), SETTINGS, ORDER, Share(), range(20), Reading(2), allocate=allocate):
        pass
    assert len(made) == 1 + 2
