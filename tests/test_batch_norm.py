"""Virtual workers in turn on one running average give what separate workers give on average."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.backends.batch_norm import MOMENTUM, PIXELS_TOGETHER, virtual_momentum, workers_together

numbers = st.floats(-10, 10)


@given(start=numbers, statistics=st.lists(numbers, min_size=1, max_size=64))
def test_turns_on_one_buffer_equal_the_mean_of_separate_buffers(start, statistics):
    shared = start
    for index, batch in enumerate(statistics):
        shared += virtual_momentum(index, len(statistics)) * (batch - shared)
    separate = [(1 - MOMENTUM) * start + MOMENTUM * batch for batch in statistics]
    assert np.isclose(shared, np.mean(separate), atol=1e-9)


@given(count=st.integers(1, 256), pixels=st.integers(1, 10**7), device=st.sampled_from(["cpu", "gpu"]))
def test_workers_go_together_in_passes_of_one_size_that_fit(count, pixels, device):
    together = workers_together(count, pixels, device)
    assert count % together == 0
    assert together == 1 or together * pixels <= PIXELS_TOGETHER[device]


def test_small_images_go_together_and_photographs_one_worker_after_the_other():
    assert workers_together(32, 16 * 12 * 12, "cpu") == 16
    assert workers_together(32, 32 * 224 * 224, "cpu") == 1


def test_one_worker_uses_the_plain_momentum():
    assert virtual_momentum(0, 1) == MOMENTUM
