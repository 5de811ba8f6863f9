"""A profile's parts that need no framework: the window, intervals, Horovod's timeline, the merged trace and its summary."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.errors import UsageError
from lbsgd.profiling.intervals import clip, length, minus, self_times, union
from lbsgd.profiling.summary import summarise, summary_lines
from lbsgd.profiling.trace import HOROVOD, LBSGD, read_horovod_timeline, span, write_trace
from lbsgd.profiling.window import place_window

EPOCH = 1_700_000_000_000_000.0
"""A time in microseconds since 1970, as every event of a trace has one."""


@pytest.mark.parametrize(
    ("text", "start", "stop", "window"),
    [
        ("auto", 0, 1000, "10:20"),
        ("auto", 300, 1000, "310:320"),
        ("auto", 0, 15, "5:15"),
        ("auto", 0, 4, "0:4"),
        ("auto", 7, 9, "7:9"),
        ("0:1", 0, 1, "0:1"),
        ("40:42", 0, 60, "40:42"),
        ("50:60", 50, 60, "50:60"),
    ],
)
def test_window(text, start, stop, window):
    assert str(place_window(text, start, stop)) == window


@pytest.mark.parametrize("text", ["", "5", "5:", ":5", "5:5", "6:5", "-1:5", "1:2:3", "a:b", "1.5:3", " 1:2", "1-2", "AUTO"])
def test_a_window_that_is_none_is_refused_with_what_was_given(text):
    with pytest.raises(UsageError, match="N:M") as raised:
        place_window(text, 0, 100)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize(("text", "start", "stop"), [("0:10", 5, 20), ("15:25", 5, 20), ("20:21", 5, 20), ("0:101", 0, 100)])
def test_a_window_outside_of_the_run_is_refused_with_what_the_run_takes(text, start, stop):
    with pytest.raises(UsageError, match=f"{start}:{stop}"):
        place_window(text, start, stop)


intervals = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=12
)


def points(parts) -> set[int]:
    """The unit cells that intervals with whole ends cover: a second, plain definition of them."""
    return {cell for start, end in parts for cell in range(start, end)}


@given(intervals, intervals)
def test_intervals_are_sets_of_points(first, second):
    assert points(union(first)) == points(first)
    assert length(union(first)) == len(points(first))
    assert points(minus(union(first), union(second))) == points(first) - points(second)
    assert points(clip(first, (10, 40))) == points(first) & set(range(10, 40))


@given(intervals)
def test_united_intervals_are_apart_and_in_order(parts):
    united = union(parts)
    assert all(end < start for (_, end), (start, _) in zip(united, united[1:], strict=False))


@given(intervals)
def test_own_times_of_spans_sum_up_to_what_they_cover(parts):
    times = self_times((str(number), start, end) for number, (start, end) in enumerate(parts))
    assert sum(times.values()) == len(points(nested(parts)))
    assert all(time >= 0 for time in times.values())


def nested(parts):
    """Intervals, each cut off at the end of those that it begins in, as a thread's spans are."""
    kept = []
    for start, end in sorted(parts, key=lambda part: (part[0], -part[1])):
        end = min([end, *(outer_end for outer_start, outer_end in kept if outer_start <= start < outer_end)])
        kept.append((start, end))
    return kept


def test_an_operation_lends_its_time_to_those_that_it_calls():
    spans = [("conv", 0, 10), ("mkldnn", 2, 9), ("pad", 3, 4), ("conv", 20, 22), ("relu", 22, 23)]
    assert self_times(spans) == {"conv": 5, "mkldnn": 6, "pad": 1, "relu": 1}


# As Horovod 0.28 writes it: a list that is never closed, some lines with two events.
TIMELINE = """[
{"name":"process_name","ph":"M","pid":1,"args":{"name":"layer1.weight"}},
{"name":"process_sort_index","ph":"M","pid":1,"args":{"sort_index":1}},
{"name":"CLOCK_SYNC","ph":"c","args":{"start_time_since_epoch_in_micros":1700000000000000}},
{"ph":"B","name":"NEGOTIATE_ALLREDUCE","ts":100,"pid":1},
{"ph":"X","name":"0","ts":110,"pid":1,"dur":0},{"ph":"E","ts":120,"pid":1},
{"name":"process_name","ph":"M","pid":2,"args":{"name":"layer2.weight"}},
{"ph":"B","name":"ALLREDUCE","ts":120,"pid":1,"args":{"dtype":"float32"}},
{"ph":"B","name":"ALLREDUCE","ts":125,"pid":2},
{"ph":"B","name":"MPI_ALLREDUCE","ts":130,"pid":1},
{"ph":"E","ts":180,"pid":1},
{"ph":"E","ts":190,"pid":1,"args":{"shape":"[2]"}},
{"ph":"E","ts":195,"pid":2},
{"ph":"E","ts":196,"pid":2},
{"ph":"B","name":"ALLREDUCE","ts":200,"pid":1},
"""
SPANS = {
    ("NEGOTIATE_ALLREDUCE", "layer1.weight", 100, 20),
    ("0", "layer1.weight", 110, 0),
    ("MPI_ALLREDUCE", "layer1.weight", 130, 50),
    ("ALLREDUCE", "layer1.weight", 120, 70),
    ("ALLREDUCE", "layer2.weight", 125, 70),
}


def test_horovods_timeline_on_the_axis_of_the_trace(tmp_path):
    (tmp_path / "horovod.json").write_text(TIMELINE)
    events = read_horovod_timeline(tmp_path / "horovod.json")
    assert {(event["name"], event["tid"], event["ts"] - EPOCH, event["dur"]) for event in events} == SPANS
    assert {event["pid"] for event in events} == {HOROVOD}


@given(st.integers(0, len(TIMELINE)))
def test_a_timeline_that_breaks_off_gives_the_spans_before(tmp_path_factory, characters):
    path = tmp_path_factory.mktemp("timeline") / "horovod.json"
    path.write_text(TIMELINE[:characters])
    events = read_horovod_timeline(path)
    assert {(event["name"], event["tid"], event["ts"] - EPOCH, event["dur"]) for event in events} <= SPANS


def test_no_timeline_has_no_spans(tmp_path):
    assert read_horovod_timeline(tmp_path / "none.json") == []


def step(start: float, seconds: float, data: float) -> list[dict]:
    """lbsgd's spans of a step, in milliseconds after EPOCH."""
    begin = EPOCH + 1000 * start
    return [
        span("step", begin, begin + 1000 * seconds, LBSGD, "loop", "step"),
        span("data wait", begin, begin + 1000 * data, LBSGD, "loop", "data"),
    ]


def operation(name: str, start: float, end: float, thread: int = 1, category: str = "cpu_op") -> dict:
    return span(name, EPOCH + 1000 * start, EPOCH + 1000 * end, 4711, thread, category)


def allreduce(start: float, end: float, tensor: str = "weight", name: str = "ALLREDUCE") -> dict:
    return span(name, EPOCH + 1000 * start, EPOCH + 1000 * end, HOROVOD, tensor, "communication")


def test_summary_of_two_steps():
    events = [
        *step(0, 100, 10),
        *step(100, 100, 30),
        operation("conv", 10, 60),
        operation("mkldnn", 20, 60),
        operation("conv", 130, 180),
        operation("before the window", -50, 20, thread=2),
        allreduce(50, 80),  # 10 ms of it while conv computes
        allreduce(70, 80, "other tensor"),
        allreduce(80, 99, "other tensor", "NEGOTIATE_ALLREDUCE"),
        allreduce(150, 170),  # hidden
        allreduce(190, 240),  # goes on after the window
    ]
    summary = summarise(events)
    assert (summary.iterations, summary.device) == (2, "cpu")
    assert summary.step_ms == pytest.approx(100)
    assert summary.data_ms == pytest.approx(20)
    assert summary.communication_ms == pytest.approx((30 + 20 + 10) / 2)
    assert summary.exposed_ms == pytest.approx((20 + 10) / 2)
    own = {item.name: item.step_ms for item in summary.operations}
    assert own == pytest.approx({"conv": 30, "mkldnn": 20, "before the window": 10})
    assert summary.operations[0].share == pytest.approx(0.3)


def test_where_there_are_kernels_they_are_what_computes():
    """On a GPU an operation of the CPU only starts kernels: an allreduce beside it alone is exposed."""
    events = [*step(0, 100, 0), operation("conv", 0, 100), operation("kernel", 0, 40, 7, "kernel"), allreduce(30, 70)]
    summary = summarise(events)
    assert summary.device == "cuda"
    assert [item.name for item in summary.operations] == ["kernel"]
    assert summary.exposed_ms == pytest.approx(30)


@given(
    st.lists(st.tuples(st.integers(-20, 120), st.integers(0, 60), st.integers(0, 3)), max_size=10),
    st.lists(st.tuples(st.integers(-20, 120), st.integers(0, 60)), max_size=10),
)
def test_exposed_communication_is_a_part_of_communication_and_of_the_step(operations, reductions):
    events = [*step(0, 100, 5)]
    events += [operation("conv", start, start + length, thread) for start, length, thread in operations]
    events += [allreduce(start, start + length, str(number)) for number, (start, length) in enumerate(reductions)]
    summary = summarise(events)
    assert 0 <= summary.exposed_ms <= summary.communication_ms + 1e-6
    assert summary.communication_ms <= summary.step_ms + 1e-6


def test_the_summary_fits_one_screen_and_names_its_lines():
    events = [
        *step(0, 100, 10),
        *(operation(f"operation{number}", number, number + 1) for number in range(90)),
        allreduce(95, 99),
    ]
    lines = summary_lines(summarise(events))
    assert len(lines) < 24
    assert all(len(line) < 100 for line in lines)
    for name, figure in (("step", "100.00"), ("waiting for data", "10.00"), ("exposed", "4.00"), ("operation0", "1.00")):
        assert any(name in line and figure in line for line in lines), name


def test_the_trace_is_chromes_format(tmp_path):
    events = [*step(0, 100, 10), allreduce(95, 99)]
    write_trace(tmp_path / "trace.json.gz", events)
    assert json.loads(gzip.decompress((tmp_path / "trace.json.gz").read_bytes()))["traceEvents"] == events
