"""What `lbsgd bench allreduce` measures and refuses, as far as one process can tell."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.commands.allreduce_table import HEADER, row_text, summary_text
from lbsgd.commands.bench_allreduce import require_right
from lbsgd.errors import LbsgdError, UsageError
from lbsgd.measuring.allreduce import EXACT_UP_TO, Measurement, Sweep, contribution, count_wrong

SWEEP = {"begin": 8, "end": 64, "step": None, "factor": 2, "iterations": 1, "warm_up": 0, "check": True, "datatype": "float32"}

RANKS = st.integers(1, 300)
DATATYPES = st.sampled_from(sorted(EXACT_UP_TO))


def total(ranks: int, count: int, datatype: str) -> np.ndarray:
    """The sum of all ranks' arrays, added one after the other in their own type."""
    arrays = [contribution(rank, ranks, count, datatype) for rank in range(ranks)]
    return np.sum(arrays, axis=0, dtype=datatype)


def measurement(**changes) -> Measurement:
    row = {"through": "horovod", "ranks": 4, "count": 2, "bytes": 8_000_000, "in_place": False, "wrong": 0}
    return Measurement(**row | {"seconds": 0.004, "p99_seconds": 0.005, "mean_seconds": 0.004} | changes)


@pytest.mark.parametrize(
    "changes, counts",
    [
        ({}, [2, 4, 8, 16]),
        ({"factor": 3}, [2, 6]),
        ({"step": 24}, [2, 8, 14]),
        ({"datatype": "float64"}, [1, 2, 4, 8]),
        ({"begin": 9, "end": 10}, [2]),
        ({"begin": 8, "end": 14, "step": 1}, [2, 3]),
    ],
)
def test_sizes_go_from_begin_to_end_in_whole_elements(changes, counts):
    assert Sweep(**SWEEP | changes).counts() == counts


@pytest.mark.parametrize("changes, hint", [({"begin": 65}, "more than --end 64"), ({"begin": 3}, "takes 4 bytes")])
def test_a_sweep_without_a_size_is_refused(changes, hint):
    with pytest.raises(UsageError, match=hint):
        Sweep(**SWEEP | changes)


@given(RANKS, st.integers(1, 100), DATATYPES)
def test_the_right_sum_has_no_wrong_element(ranks, count, datatype):
    found = total(ranks, count, datatype)
    assert found.dtype == datatype
    assert count_wrong(found, ranks) == 0


@given(RANKS, DATATYPES, st.sets(st.integers(0, 99), max_size=20))
def test_every_wrong_element_is_counted(ranks, datatype, positions):
    found = total(ranks, 100, datatype)
    found[list(positions)] += 1
    assert count_wrong(found, ranks) == len(positions)


def test_a_number_that_is_none_is_wrong():
    found = total(2, 10, "float32")
    found[3], found[4] = np.nan, np.inf
    assert count_wrong(found, 2) == 2


@given(st.integers(2, 31), st.data())
def test_a_rank_left_out_or_counted_twice_is_noticed_everywhere(ranks, data):
    left_out = data.draw(st.integers(0, ranks - 1))
    twice = data.draw(st.integers(0, ranks - 1).filter(lambda rank: rank != left_out))
    missing = total(ranks, 64, "float32") - contribution(left_out, ranks, 64, "float32")
    assert count_wrong(missing, ranks) == 64
    assert count_wrong(missing + contribution(twice, ranks, 64, "float32"), ranks) == 64


@given(st.integers(1, 64), st.sampled_from(["float16", "float32"]), st.integers(0, 9))
def test_a_piece_of_the_array_in_the_wrong_place_is_noticed(ranks, datatype, exponent):
    found = total(ranks, 1024, datatype)
    assert count_wrong(np.roll(found, 2**exponent), ranks) > 0


def test_a_type_too_small_for_an_exact_sum_is_refused():
    with pytest.raises(UsageError, match="4096 ranks cannot be exact in float16; use -d float32"):
        contribution(0, 4096, 8, "float16")


def test_bandwidths_are_those_of_nccl_tests():
    row = measurement()
    assert row.algbw == pytest.approx(2.0)
    assert row.busbw == pytest.approx(2.0 * 2 * 3 / 4)
    assert measurement(ranks=1).busbw == 0


@pytest.mark.parametrize("measured", [[measurement(), measurement(in_place=True, wrong=None)], [measurement()]])
def test_the_columns_of_the_table_stand_under_their_names(measured):
    def ends(line: str) -> list[int]:
        return [word.end() for word in re.finditer(r"\S+", line)]

    assert ends(row_text(measured, "float32")) == ends(HEADER.splitlines()[1])[1:]


def test_two_ways_stand_side_by_side_in_place_if_both_can():
    mpi = [measurement(through="mpi4py"), measurement(through="mpi4py", in_place=True, seconds=0.002, wrong=2)]
    horovod = [measurement(seconds=0.008, wrong=None)]
    *verdicts, title, _, figures = summary_text(mpi + horovod).splitlines()
    assert verdicts == ["# mpi4py: mean busbw 4.500 GB/s, 2 wrong elements", "# horovod: mean busbw 1.500 GB/s, not checked"]
    assert title == "# side by side, out-of-place"
    assert figures.split() == ["#", "8000000", "4000.00", "8000.00", "2.00"]
    *_, title, _, figures = summary_text([*mpi, *horovod, measurement(in_place=True)]).splitlines()
    assert title == "# side by side, in-place"
    assert figures.split() == ["#", "8000000", "2000.00", "4000.00", "2.00"]
    assert len(summary_text(mpi).splitlines()) == 1


def test_a_wrong_sum_is_an_error_that_says_where():
    require_right([measurement(), measurement(wrong=None)])
    with pytest.raises(LbsgdError, match="1,003 elements .* first through horovod at 64 bytes") as error:
        require_right([measurement(), measurement(bytes=64, wrong=1000), measurement(bytes=128, wrong=3)])
    assert error.value.exit_code == 1


@pytest.mark.parametrize(
    "arguments, hint",
    [
        (["-b", "1M", "-e", "64K"], "--begin 1048576 is more than --end 65536"),
        (["-f", "1"], "'--factor'"),
        (["-f", "2", "-i", "8"], "give one of them"),
        (["-e", "64Q"], "'64Q' is not a number of bytes"),
        (["-b", "0"], "'0' is not a number of bytes"),
        (["--through", "horovod,tcp"], "there is no 'tcp'; give one or more of mpi4py, horovod"),
        (["-d", "float16"], "add --through horovod"),
        (["-c", "2"], "'--check'"),
    ],
)
def test_a_wrong_request_is_exit_code_2_with_a_hint(lbsgd, arguments, hint):
    result = lbsgd("bench", "allreduce", *arguments)
    assert result.code == 2
    assert hint in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
