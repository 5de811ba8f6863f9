"""Virtual workers in turn on one running average give what separate workers give on average."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.backends.batch_norm import MOMENTUM, virtual_momentum

numbers = st.floats(-10, 10)


@given(start=numbers, statistics=st.lists(numbers, min_size=1, max_size=64))
def test_turns_on_one_buffer_equal_the_mean_of_separate_buffers(start, statistics):
    shared = start
    for index, batch in enumerate(statistics):
        shared += virtual_momentum(index, len(statistics)) * (batch - shared)
    separate = [(1 - MOMENTUM) * start + MOMENTUM * batch for batch in statistics]
    assert np.isclose(shared, np.mean(separate), atol=1e-9)


def test_one_worker_uses_the_plain_momentum():
    assert virtual_momentum(0, 1) == MOMENTUM
