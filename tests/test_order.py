import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.errors import UsageError
from lbsgd.policy.order import Order, permutation

seeds = st.integers(0, 2**63 - 1)


@st.composite
def orders(draw):
    global_batch = draw(st.integers(1, 48))
    return Order(draw(seeds), draw(st.integers(global_batch, 300)), global_batch)


def test_the_order_of_a_run_never_changes():
    """These numbers are kept for ever: a checkpoint made by another version must find the same samples."""
    order = Order(seed=0, samples=10, global_batch=4)
    batches = [order.samples_of(iteration).tolist() for iteration in range(4)]
    assert batches == [[0, 2, 9, 1], [8, 5, 4, 3], [5, 3, 7, 8], [2, 4, 1, 0]]
    assert permutation(2**63 - 1, 89, 5).tolist() == [0, 1, 4, 2, 3]


@given(seeds, st.integers(0, 1000), st.integers(0, 300))
def test_an_epoch_has_every_sample_once(seed, epoch, samples):
    shuffled = permutation(seed, epoch, samples)
    assert shuffled.dtype == np.int64
    assert sorted(shuffled.tolist()) == list(range(samples))


@given(orders(), st.integers(0, 20))
def test_no_sample_comes_twice_in_an_epoch(order, epoch):
    each = order.iterations_per_epoch
    batches = [order.samples_of(iteration) for iteration in range(epoch * each, (epoch + 1) * each)]
    seen = np.concatenate(batches)
    assert len(set(seen.tolist())) == len(seen) == each * order.global_batch > order.samples - order.global_batch


@given(orders(), st.integers(0, 1000))
def test_ranks_share_the_global_batch_in_their_order(order, iteration):
    batch = order.samples_of(iteration).tolist()
    for size in (size for size in range(1, order.global_batch + 1) if order.global_batch % size == 0):
        shares = [order.share(iteration, rank, size) for rank in range(size)]
        assert {len(share) for share in shares} == {order.global_batch // size}
        assert np.concatenate(shares).tolist() == batch


@given(orders(), st.lists(st.integers(0, 1000), min_size=2, max_size=5))
def test_the_iteration_alone_decides(order, visited):
    """A run that starts in the middle sees what one from the start sees."""
    fresh = [Order(order.seed, order.samples, order.global_batch).samples_of(i).tolist() for i in visited]
    assert [order.samples_of(i).tolist() for i in reversed(visited)] == fresh[::-1]


@given(seeds, st.integers(0, 1000))
def test_epochs_and_seeds_shuffle_differently(seed, epoch):
    one = permutation(seed, epoch, 100).tolist()
    assert one != permutation(seed, epoch + 1, 100).tolist()
    assert one != permutation(seed + 1, epoch, 100).tolist()


def test_samples_left_over_come_in_another_epoch():
    order = Order(seed=0, samples=11, global_batch=4)
    seen = {sample for iteration in range(20) for sample in order.samples_of(iteration).tolist()}
    assert seen == set(range(11))


def test_positions_are_uniform():
    """Each of 8 samples is first in about 1/8 of 4000 epochs: 500, with a standard deviation of 21."""
    first = np.bincount([permutation(5, epoch, 8)[0] for epoch in range(4000)], minlength=8)
    assert abs(first - 500).max() < 5 * 21


def test_imagenet_is_shuffled_in_a_moment():
    start = time.process_time()
    permutation(123, 4, 1_281_167)
    assert time.process_time() - start < 1


def test_a_batch_cannot_be_changed_by_its_reader():
    with pytest.raises(ValueError, match="read-only"):
        Order(0, 10, 4).samples_of(0)[0] = 1


def test_more_than_one_epoch_in_a_batch_is_refused():
    with pytest.raises(UsageError, match="global batch of 8192 cannot be taken from 1442"):
        Order(0, 1442, 8192)


def test_ranks_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(UsageError, match="256 does not divide by 3 ranks"):
        Order(0, 1442, 256).share(0, 0, 3)
