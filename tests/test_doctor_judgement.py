"""What the doctor makes of the facts of several hosts: sound ones are ready, and each planted fault is told once, by name."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.doctor import clock, examination, meeting
from lbsgd.doctor.finding import Finding, merged, names, told
from lbsgd.doctor.gather import Answer
from lbsgd.doctor.gather import judge as judge_answers
from lbsgd.doctor.meeting import Trial

from .doctor_samples import request, sound_hosts

GB = 1 << 30


def bad(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.status in ("warning", "problem")]


def judged(hosts: dict, **changes) -> list[Finding]:
    """What is wrong with these hosts; facts are what JSON makes of them."""
    return bad(examination.judge(json.loads(json.dumps(hosts)), request(len(hosts), **changes)))


@pytest.mark.parametrize("count", [1, 2, 32])
@pytest.mark.parametrize("interface", [None, "eth0"])
def test_sound_hosts_have_no_fault(count, interface):
    assert judged(sound_hosts(count), interface=interface) == []


def test_every_check_of_sound_hosts_speaks_once():
    findings = examination.judge(sound_hosts(32), request(32))
    checks = [finding.check for finding in findings]
    assert len(set(checks)) == len(checks) == 17
    assert max(len(finding.found) for finding in findings) < 160


def plant(section: str, key: str, value) -> Callable[[dict], None]:
    def change(hosts: dict) -> None:
        hosts["node2"][section][key] = value

    return change


def trap(hosts: dict) -> None:
    for facts in hosts.values():
        facts["network"]["interfaces"]["docker0"] = {"addresses": ["172.17.0.1/16"], "mtu": 1500}


def small_packets(hosts: dict) -> None:
    hosts["node2"]["network"]["interfaces"]["eth0"]["mtu"] = 1500


def other_network(hosts: dict) -> None:
    hosts["node2"]["network"]["interfaces"]["eth0"]["addresses"] = ["10.0.9.2/24"]


def unknown_name(hosts: dict) -> None:
    hosts["node2"]["network"]["routes"]["node1"] = {"error": "Name or service not known"}


def looped_name(hosts: dict) -> None:
    hosts["node2"]["network"]["routes"]["node1"] = {"address": "127.0.1.1", "interface": "lo"}


H200 = "NVIDIA H200, 580.82, 143771 MiB"
OLD_HOROVOD = {"version": "0.28.1", "built_for": {"torch": "2.12.0"}, "build": None}

FAULTS = {
    "versions": (plant("software", "versions", {"lbsgd": "0.1.0", "torch": "2.12.0"}), "torch 2.13.0 and 2.12.0 (node1"),
    "code": (plant("software", "code", "0ld0" * 16), "lbsgd's source files c0dec0de and 0ld00ld0"),
    "frameworks": (plant("software", "frameworks", {}), "neither torch nor tensorflow is installed"),
    "no horovod": (plant("software", "horovod", None), "Horovod is not installed"),
    "horovod": (plant("software", "horovod", OLD_HOROVOD), "Horovod was built for torch 2.12.0, but torch is 2.13.0"),
    "no mpirun": (plant("mpi", "launcher", None), "no /usr/bin/mpirun"),
    "other mpi": (
        plant("mpi", "launcher", "MPICH 4.3.1"),
        "/usr/bin/mpirun is of MPICH 4.3.1, but mpi4py's library is of Open",
    ),
    "no library": (plant("mpi", "library", None), "mpi4py cannot load an MPI library"),
    "gpus": (plant("machine", "gpus", 7), "7 GPUs for 8 ranks"),
    "driver": (plant("machine", "nvidia_smi", {"error": "Driver/library version mismatch"}), "nvidia-smi: Driver/library"),
    "nccl": (plant("machine", "nccl", "2.21.5"), "NCCL is 2.28.9 on node1, 2.21.5 on node2"),
    "shm": (plant("machine", "shm_free", 60 << 20), "/dev/shm has 60 MiB free for 8 ranks"),
    "open files": (plant("machine", "open_files", 256), "at most 256 open files; 16 ranks want about 320"),
    "locked": (plant("machine", "locked_bytes", 64 << 10), "at most 0.1 MiB of locked memory, but there is RDMA (mlx5_0)"),
    "data": (plant("data", "error", "no folder '/data/imagenet'; mount it"), "no folder '/data/imagenet'"),
    "looped": (looped_name, "it takes node1 for itself (127.0.1.1)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_one_problem_on_its_host(fault):
    change, found = FAULTS[fault]
    hosts = sound_hosts(2)
    change(hosts)
    wrong = [finding for finding in judged(hosts) if finding.status == "problem"]
    assert len(wrong) == 1
    assert wrong[0].found.startswith(found)
    assert wrong[0].host in ("node2", None)
    assert wrong[0].why
    assert wrong[0].advice


WARNINGS = {
    "quota": (plant("machine", "cpu_quota", 4.0), {}, "4 cores by its control group for 8 ranks"),
    "shm": (plant("machine", "shm_free", GB // 2), {}, "/dev/shm has 512 MiB free for 8 ranks"),
    "folder": (plant("storage", "folder", None), {}, "it does not have the folder that this was started in"),
    "apart": (plant("storage", "sees_mark", False), {}, "/runs is a folder of its own there"),
    "unwritable": (
        plant("storage", "error", "/runs: Read-only file system"),
        {},
        "cannot write to /runs: Read-only file system",
    ),
    "gpu": (plant("machine", "nvidia_smi", {"gpus": ["A100"] * 8}), {}, f"8 x {H200} on node1, 8 x A100 on node2"),
    "library": (
        plant("mpi", "launcher", "Open MPI 4.1.4"),
        {},
        "/usr/bin/mpirun is of Open MPI 4.1.4, but mpi4py's library is",
    ),
    "unknown": (unknown_name, {}, "it does not know the way to node1: node1: Name or service not known"),
    "docker0": (trap, {}, "docker0 has the address 172.17.0.1 on node1 and node2"),
    "mtu": (small_packets, {"interface": "eth0"}, "eth0 has MTU 9000 on node1, 1500 on node2"),
    "network": (other_network, {"interface": "eth0"}, "eth0 is in 10.0.0.0/24 on node1, 10.0.9.0/24 on node2"),
}


@pytest.mark.parametrize("fault", WARNINGS)
def test_what_only_slows_a_job_or_may_go_well_is_one_warning(fault):
    change, changes, found = WARNINGS[fault]
    hosts = sound_hosts(2)
    change(hosts)
    [finding] = judged(hosts, **changes)
    assert finding.status == "warning"
    assert finding.found.startswith(found)


def test_writing_matters_more_where_rank_0_is():
    hosts = sound_hosts(2)
    hosts["node1"]["storage"]["error"] = "/runs: No space left on device"
    [finding] = judged(hosts)
    assert (finding.check, finding.status, finding.host) == ("runs folder", "problem", "node1")


def test_room_is_counted_where_rank_0_is():
    hosts = sound_hosts(2)
    hosts["node1"]["storage"]["free"] = hosts["node2"]["storage"]["free"] = GB
    [finding] = judged(hosts)
    # 25,557,032 parameters, weights and velocity, 4 bytes each, kept five times and written once: 1,170 MiB
    assert finding.found == "/runs: 1,024 MiB free; 5 + 1 checkpoints of resnet50 take 1,170 MiB"
    assert judged(hosts, keep_checkpoints=2) == []


def test_other_data_is_told_with_its_numbers():
    hosts = sound_hosts(2)
    hosts["node2"]["data"]["validation"] = {"samples": 49999, "digest": "c"}
    [finding] = judged(hosts)
    assert finding.found == "another listing of validation: 1,281,167 + 49,999 images, 1,281,167 + 50,000 on node1"


@pytest.mark.parametrize(
    "name, found",
    [
        ("ib0", "no interface ib0 with an address; it has lo, eth0"),
        ("lo", "lo leads nowhere but to the host itself"),
    ],
)
def test_a_named_interface_that_cannot_be(name, found):
    first, *_ = judged(sound_hosts(2), interface=name)
    assert (first.check, first.status, first.found) == ("interfaces", "problem", found)
    assert "eth0" in first.advice


def test_a_trap_matters_only_until_an_interface_is_named():
    hosts = sound_hosts(2)
    trap(hosts)
    assert judged(hosts, interface="eth0") == []
    [named] = judged(hosts, interface="docker0")
    assert named.status == "problem"
    assert named.advice == "give --interface eth0"


def test_only_what_is_wanted_must_be_installed():
    hosts = sound_hosts(2)
    [finding] = judged(hosts, frameworks=("tensorflow",))[:1]
    assert finding.found == "tensorflow not installed"
    assert judged(hosts, frameworks=("torch",)) == []


def test_hosts_without_gpus_need_none():
    hosts = sound_hosts(2)
    for facts in hosts.values():
        facts["machine"] |= {"gpus": 0, "nvidia_smi": None, "nccl": None, "rdma": [], "locked_bytes": 1 << 16}
    assert judged(hosts) == []


def test_the_host_that_only_starts_ranks_needs_neither_gpus_nor_data():
    hosts = sound_hosts(2)
    hosts["login"] = sound_hosts(1)["node1"]
    hosts["login"]["machine"]["gpus"] = 0
    hosts["login"]["data"] = {"error": "no folder"}
    hosts["login"]["storage"]["sees_mark"] = False
    hosts["login"]["network"]["interfaces"]["eth0"]["addresses"] = ["10.0.0.9/24"]
    assert bad(examination.judge(hosts, request(2))) == []
    hosts["login"]["software"]["versions"]["torch"] = "2.12.0"
    [finding] = bad(examination.judge(hosts, request(2)))
    assert (finding.check, finding.host) == ("versions", "login")


def test_a_section_that_a_host_does_not_tell_is_a_problem_and_the_rest_is_judged():
    hosts = sound_hosts(2)
    sections = hosts["node2"]
    del sections["data"]
    answers = [Answer("node1", "here", hosts["node1"], code=0), Answer("node2", "ssh", sections, code=None)]
    [finding] = bad(list(judge_answers(answers, 60)))
    assert (finding.check, finding.host) == ("data", "node2")
    assert finding.found == "it did not report data within 60 s"
    assert judged(hosts) == []


@pytest.mark.parametrize(
    "code, errors, check, found",
    [
        (None, "", "reach", "no answer within 60 s"),
        (255, "Host key verification failed.\n", "reach", "ssh fails: Host key verification failed."),
        (127, "sh: 1: /venv/bin/lbsgd: not found\n", "lbsgd", "no /"),
        (2, "Error: no command 'doctor'\n", "lbsgd", "`lbsgd doctor facts` fails: no command 'doctor'"),
    ],
)
def test_a_host_that_tells_nothing(code, errors, check, found):
    [finding] = judge_answers([Answer("node2", "ssh", code=code, errors=errors)], 60)
    assert (finding.check, finding.host, finding.status) == (check, "node2", "problem")
    assert finding.found.startswith(found)


def world(events: list[dict], code: int | None = 0, errors: str = "") -> Finding:
    return meeting.judge_world(Trial("MPI", events, code, errors), request(1, np=2))


STARTED = [{"event": "started", "host": "node1"}, {"event": "started", "host": "node2"}]


@pytest.mark.parametrize(
    "events, code, errors, found",
    [
        ([{"event": "met", "size": 1}] * 2, 0, "", "asked 2, MPI saw 1: 2 runs of one rank each"),
        ([{"event": "alone", "size": 1, "error": "e"}] * 2, 1, "", "asked 2, MPI saw 1: 2 runs of one rank each"),
        ([{"event": "met", "size": 4}], 0, "", "asked 2, MPI saw 4"),
        (STARTED, None, "", "asked 2, started 2 on node1 and node2, met none within 60 s"),
        (STARTED[:1], None, "", "asked 2, started 1 on node1, met none within 60 s"),
        ([], 1, "-----\nmpirun could not find it.\n", "asked 2, started 0, met none: mpirun could not find it."),
        ([{"event": "alone", "size": None, "error": "no mpi4py"}], 3, "", "asked 2, started 0, met none: no mpi4py"),
    ],
)
def test_a_world_of_another_size_than_was_asked_for(events, code, errors, found):
    finding = world(events, code, errors)
    assert (finding.check, finding.status, finding.found) == ("world size", "problem", found)


def test_a_world_of_the_right_size():
    assert world([*STARTED, {"event": "met", "size": 2}]).found == "asked 2, MPI saw 2"


@pytest.mark.parametrize(
    "events, code, found",
    [
        ([{"event": "summed", "bytes": 4 << 20, "seconds": 0.1, "wrong": 7, "device": "cpu"}], 0, "7 elements are not the sum"),
        ([], None, "no sum within 60 s"),
        ([], 1, "it failed: HorovodInternalError: x"),
    ],
)
def test_a_sum_that_is_wrong_or_does_not_come(events, code, found):
    trial = Trial("Horovod with torch", events, code, "noise\nHorovodInternalError: x\n")
    finding = meeting.judge_sum(trial, request())
    assert (finding.check, finding.status, finding.found) == ("allreduce (Horovod with torch)", "problem", found)


def test_ranks_are_counted_host_after_host():
    assert request(3, np=10).ranks == {"node1": 8, "node2": 2}
    assert request(2, np=17).ranks == {"node1": 9, "node2": 8}


def test_lines_of_others_are_passed_over():
    text = 'motd\n{"event": "started", "host": "a"}\n{"other": 1}\n[1]\n{broken\n'
    assert list(meeting.events(text)) == [{"event": "started", "host": "a"}]


@given(skew=st.floats(-1e5, 1e5), delay=st.floats(0, 10))
def test_a_slow_answer_is_no_skew_and_a_skew_is_never_exaggerated(skew, delay):
    """The clock was read somewhere within the delay."""
    offset = (skew - delay / 2, skew + delay / 2)
    assert abs(clock.skew(offset)) <= abs(skew)
    assert abs(clock.skew(offset)) >= abs(skew) - delay / 2 - 1e-6


@pytest.mark.parametrize(
    "offset, status", [((-0.2, 0.3), "ok"), ((2.0, 3.0), "warning"), ((-90.0, -89.0), "problem"), ((3600.0, 3601.0), "problem")]
)
def test_clocks(offset, status):
    finding = next(clock.judge({"node1": (-0.1, 0.1), "node2": offset}))
    assert finding.status == status
    assert finding.host == (None if status == "ok" else "node2")


def test_many_hosts_are_told_in_few_words():
    hosts = [f"node{number}" for number in range(1, 33)]
    assert names(hosts[:1]) == "node1"
    assert names(hosts[:3]) == "node1, node2 and node3"
    assert names(hosts) == "node1, node2, node3 and 29 more"
    assert told(dict.fromkeys(hosts, "4.1.8")) == "4.1.8"
    assert told({"a": 1, "b": 2, "c": 1}) == "1 on a and c, 2 on b"


def test_the_same_finding_on_several_hosts_is_shown_once():
    findings = [Finding("data", host, "problem", "no folder", "why", "do") for host in ("a", "b")]
    other = Finding("clock", None, "ok", "within 1 s")
    assert merged([findings[0], other, findings[1]]) == [(findings[0], ["a", "b"]), (other, [])]
