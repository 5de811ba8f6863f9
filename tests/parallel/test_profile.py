"""`lbsgd train --profile`: trace and summary of exactly the iterations that were asked for; the run itself stays the same."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from lbsgd.record.run_record import read_metrics, read_run

STEPS, FIRST, STOP = 12, 6, 10
CONVOLUTION = {"torch": "convolution", "tensorflow": "conv2d"}


@dataclass(frozen=True)
class Profiled:
    """What a profiled run left, and what it said."""

    framework: str
    ranks: int
    folder: Path
    output: str

    @property
    def events(self) -> list[dict]:
        return json.loads(gzip.decompress((self.folder / "profile" / "trace.json.gz").read_bytes()))["traceEvents"]

    @property
    def summary(self) -> dict:
        return json.loads((self.folder / "profile" / "summary.json").read_text())


@pytest.fixture(scope="module")
def train(lbsgd, digits):
    """train(framework, ranks, ...): what the command said of STEPS steps of the demo; it must succeed."""

    def train(framework: str, ranks: int, *arguments: object) -> str:
        demo = ["--recipe", "demo", "--data", digits, "--framework", framework, "--max-steps", STEPS, "--efficiency-every", 0]
        result = lbsgd("train", *demo, "--np", ranks, "--oversubscribe", *arguments, env={"OMP_NUM_THREADS": "1"}, timeout=300)
        assert result.code == 0, result.stderr
        return result.stdout + result.stderr

    return train


@pytest.fixture(
    scope="module", params=[("torch", 2), ("tensorflow", 2), ("torch", 1)], ids=["torch-2", "tensorflow-2", "torch-1"]
)
def profiled(request, train, tmp_path_factory) -> Profiled:
    framework, ranks = request.param
    folder = tmp_path_factory.mktemp("profiled") / "run"
    output = train(framework, ranks, "--run-dir", folder, "--profile", f"{FIRST}:{STOP}")
    return Profiled(framework, ranks, folder, output)


def spans(events: list[dict], name: str, pid: str) -> list[tuple[float, float]]:
    return sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["name"] == name and e["pid"] == pid)


def test_exactly_the_iterations_that_were_asked_for(profiled):
    steps = [event for event in profiled.events if event["pid"] == "lbsgd" and event["name"] == "step"]
    assert [event["args"]["iteration"] for event in steps] == list(range(FIRST, STOP))
    assert profiled.summary["iterations"] == STOP - FIRST
    about = read_run(profiled.folder)["profile"]
    assert about == {"first": FIRST, "stop": STOP, "trace": "profile/trace.json.gz"}


def test_convolutions_of_the_framework_lie_in_the_steps(profiled):
    """Which they do only where both clocks were brought to one axis."""
    events = profiled.events
    steps = spans(events, "step", "lbsgd")
    operations = [event for event in events if event.get("cat") == "cpu_op" and "conv" in event["name"].lower()]
    inside = [event for event in operations if any(start <= event["ts"] <= end for start, end in steps)]
    assert len(inside) >= (STOP - FIRST) * 20, "resnet20 has about 20 convolutions forward alone"
    assert len(inside) >= 0.9 * len(operations)
    names = [operation["name"].lower() for operation in profiled.summary["operations"]]
    assert any(CONVOLUTION[profiled.framework] in name for name in names), names


def test_allreduces_lie_in_the_steps_and_are_summed_up(profiled):
    events, summary = profiled.events, profiled.summary
    steps, allreduces = spans(events, "step", "lbsgd"), spans(events, "ALLREDUCE", "horovod")
    if profiled.ranks == 1:
        assert not allreduces
        assert summary["communication_ms"] == summary["exposed_ms"] == 0
        return
    for start, end in steps:
        assert any(start <= begun and ended <= end for begun, ended in allreduces), "every step reduces its gradient"
    assert 0 < summary["exposed_ms"] <= summary["communication_ms"] < summary["step_ms"]


def test_operations_are_what_computes(profiled):
    """Not calls around them, which would hide all communication, nor what waits for Horovod."""
    operations = profiled.summary["operations"]
    assert not [item["name"] for item in operations if "Call" in item["name"] or "Horovod" in item["name"]]
    assert sum(item["share"] for item in operations) < 1.5, "one thread computes, a second one reads batches"


def test_the_summary_is_said_and_names_the_trace(profiled):
    assert f"profile of {STOP - FIRST} iterations" in profiled.output
    assert str(profiled.folder / "profile" / "trace.json.gz") in profiled.output
    assert "exposed" in profiled.output
    assert sorted(path.name for path in (profiled.folder / "profile").iterdir()) == ["summary.json", "trace.json.gz"]


def test_the_run_computes_what_it_computes_without_a_profile(profiled, train, tmp_path):
    train(profiled.framework, profiled.ranks, "--run-dir", tmp_path / "plain")
    plain, with_profile = (
        [line["loss"] for line in read_metrics(folder) if line["kind"] == "step"]
        for folder in (tmp_path / "plain", profiled.folder)
    )
    assert len(plain) == STEPS
    assert with_profile == plain


@pytest.mark.parametrize(
    ("window", "environment", "message"),
    [
        ("10:5", {}, "N:M"),
        ("ten", {}, "N:M"),
        ("100:110", {}, "0:12"),
        ("2:4", {"HOROVOD_TIMELINE": "mine.json"}, "HOROVOD_TIMELINE"),
    ],
)
def test_a_bad_window_is_one_error_and_no_run(lbsgd, digits, tmp_path, window, environment, message):
    demo = ["--recipe", "demo", "--data", digits, "--framework", "torch", "--max-steps", STEPS, "--run-dir", tmp_path / "run"]
    result = lbsgd("train", *demo, "--profile", window, env=environment)
    assert result.code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()
