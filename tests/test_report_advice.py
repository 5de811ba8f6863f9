"""What the report says to try next, and why."""

import dataclasses
import re

import click
import pytest

from lbsgd.cli import cli
from lbsgd.measuring.step_parts import StepParts
from lbsgd.report.advice import SUGGESTIONS, Breakdown, SlowestRank, advise

GOOD = Breakdown(
    who="torch on 64 workers",
    workers=64,
    hosts=8,
    efficiency=0.97,
    against="against 8 workers",
    parts=StepParts(compute=120.0, waiting=1.0, communication=2.0, data=0.5, other=0.2),
    batch_per_worker=32,
    global_batch=2048,
    images_per_second=16_500.0,
    data="/data/image net",
    gradient_bytes=102_000_000,
    allreduce_ms=40.0,
    baseline_compute_ms=119.5,
    slowest=SlowestRank(5, "node00", 129.0, 120.0),
)


def slower(**parts: float) -> Breakdown:
    return dataclasses.replace(GOOD, efficiency=0.7, parts=dataclasses.replace(GOOD.parts, **parts))


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_nothing_is_suggested_where_nothing_is_lost():
    advice = advise(GOOD)
    assert advice.suggestions == ()
    assert plain(advice.verdict) == (
        "torch on 64 workers: 97.0 % efficient against 8 workers. Nothing to try: compute takes 120.0 ms of the 123.7 ms step "
        "(97.0 %); no other part takes 5 %."
    )


def test_the_largest_loss_comes_first_with_its_figures():
    advice = advise(slower(communication=30.0, data=60.0))
    assert [one.title for one in advice.suggestions] == ["Faster input", "Less exposed communication"]
    assert plain(advice.verdict).endswith("Of a step of 211.2 ms: waiting for images 60.0 ms, exposed communication 30.0 ms.")
    assert "60.0 ms of the 211.2 ms step (28.4 %)" in plain(advice.suggestions[0].because)


def test_communication_over_a_network():
    (one,) = advise(slower(communication=30.0)).suggestions
    assert "102 MB alone takes 40.0 ms, a bus bandwidth of 5.02 GB/s (40.16 Gbit/s)" in plain(one.because)
    steps = " ".join(one.steps)
    assert "`--batch-per-gpu 64`" in steps
    assert "grows to 4,096" in steps
    assert "HOROVOD_HIERARCHICAL_ALLREDUCE" in steps
    assert "RDMA" in steps


def test_the_global_batch_is_that_of_all_virtual_workers():
    """Of a run whose ranks each are several."""
    (one,) = advise(dataclasses.replace(slower(communication=30.0), global_batch=8 * 2048)).suggestions
    assert "grows to 32,768" in " ".join(one.steps)


def test_communication_within_a_host_needs_no_network():
    (one,) = advise(dataclasses.replace(slower(communication=30.0), hosts=1)).suggestions
    assert "RDMA" not in " ".join(one.steps)
    assert "HIERARCHICAL" not in " ".join(one.steps)


def test_more_exposed_than_the_allreduce_takes_is_waiting_and_not_the_network():
    (one,) = advise(dataclasses.replace(slower(communication=60.0), hosts=1)).suggestions
    assert "wait for one another or share cores" in one.because
    assert one.steps[0].startswith("Give each worker cores of its own")


def test_waiting_for_images_is_measured_with_the_speed_of_a_host():
    (one,) = advise(slower(data=60.0)).suggestions
    assert "`lbsgd bench input --data '/data/image net' --feed 2062`" in one.steps[0]


def test_a_straggler_is_named():
    (one,) = advise(slower(waiting=20.0)).suggestions
    assert "waits for slower ones for 20.0 ms" in plain(one.because)
    assert "Rank 5 on host node00 computes for 129.0 ms, the median rank for 120.0 ms" in plain(one.because)
    assert "Look at host node00" in one.steps[0]
    assert one.steps[1].startswith("`lbsgd doctor` compares the hosts")


def test_slower_arithmetic_is_a_loss_and_arithmetic_is_not():
    assert advise(slower(compute=500.0)).suggestions[0].title == "Undisturbed arithmetic"
    assert advise(dataclasses.replace(slower(compute=500.0), baseline_compute_ms=499.0)).suggestions == ()
    assert advise(dataclasses.replace(slower(compute=500.0), baseline_compute_ms=None)).suggestions == ()


def test_what_was_not_measured_is_not_said():
    unknown = dataclasses.replace(
        slower(communication=30.0, waiting=20.0), gradient_bytes=None, allreduce_ms=None, slowest=None
    )
    said = " ".join(one.because for one in advise(unknown).suggestions)
    assert "bandwidth" not in said
    assert "Rank" not in said


@pytest.mark.parametrize("kind", SUGGESTIONS)
def test_only_commands_and_options_that_exist_are_named(kind):
    one = SUGGESTIONS[kind](slower(communication=60.0))
    for named in re.findall(r"`([^`]+)`", " ".join((one.because, *one.steps))):
        if named.startswith("lbsgd "):
            check_command(named.split()[1:])
        elif named.startswith("--"):
            train = cli.get_command(click.Context(cli), "train")
            assert named.split()[0] in {flag for option in train.params for flag in option.opts}


def check_command(words: list[str]) -> None:
    command: click.Command = cli
    for word in words:
        if not isinstance(command, click.Group) or word.startswith("-"):
            break
        command = command.get_command(click.Context(command), word)
        assert command, f"no command {' '.join(words)}"
    flags = {flag for option in command.params for flag in option.opts}
    assert [word for word in words if word.startswith("--") and word not in flags] == []
