"""Which hosts and slots are found, from the command line, a scheduler's environment or this host."""

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.errors import EnvironmentNotReady, UsageError
from lbsgd.launch.hosts import Allocation, expand_nodes, find_allocation, local_slots, parse_hosts, require
from lbsgd.launch.job import Job
from lbsgd.launch.mpirun import render

SLURM = {"SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_TASKS_PER_NODE": "2(x2)", "SLURM_CPUS_ON_NODE": "64"}


@pytest.fixture
def hostfile(tmp_path):
    """hostfile(text): a file with this text."""

    def write(text: str):
        path = tmp_path / "hosts of job"
        path.write_text(text)
        return path

    return write


def found(slots: dict[str, int], source: str, of: str = "slots") -> Allocation:
    return Allocation(slots, source, of)


def test_hosts_of_the_command_line_come_before_the_scheduler(hostfile):
    path = hostfile("c slots=2\n")
    assert find_allocation(SLURM, hosts="a:8,b:8") == found({"a": 8, "b": 8}, "--hosts")
    assert find_allocation(SLURM, hostfile=path) == found({"c": 2}, f"--hostfile {path}")


@pytest.mark.parametrize("command", [("bench", "--gpus", 1), ("train", "--framework", "torch"), ("doctor",)])
def test_a_hostfile_that_is_not_there_is_one_message_everywhere(lbsgd, tmp_path, command):
    missing = tmp_path / "none"
    result = lbsgd(*command, "--hostfile", missing, cwd=tmp_path)
    assert result.code == 2
    said = f"Error: --hostfile {missing} cannot be read: No such file or directory; give a file with a host on each line"
    assert result.errors == [said]


def test_hosts_and_hostfile_together_are_refused(hostfile):
    with pytest.raises(UsageError, match="--hosts and --hostfile both say which hosts to use; give one"):
        find_allocation({}, hosts="a", hostfile=hostfile("b\n"))


@pytest.mark.parametrize(
    "text, slots",
    [
        ("a slots=8\nb slots=4 max_slots=6\n", {"a": 8, "b": 4}),
        ("a:8\nb:4", {"a": 8, "b": 4}),
        ("b\na\n", {"b": 1, "a": 1}),
        ("# rack 1\n\n  a\tslots=2 # two GPUs\n\nb:3#\n", {"a": 2, "b": 3}),
        ("a slots=2\nb\na slots=2\n", {"a": 4, "b": 1}),
        ("job-worker-0.job.default.svc slots=1\r\n", {"job-worker-0.job.default.svc": 1}),
    ],
)
def test_a_hostfile_is_read_in_the_forms_of_open_mpi_and_mpich(hostfile, text, slots):
    allocation = find_allocation({}, hostfile=hostfile(text))
    assert list(allocation.slots.items()) == list(slots.items())


@pytest.mark.parametrize(
    "text", ["", "# none\n", "a slots=0", "a slots=x", "a b", "a:", "-oProxyCommand=x", "a;b", "a slots=2 b"]
)
def test_other_hostfiles_are_refused_with_what_a_line_is(hostfile, text):
    path = hostfile(text)
    with pytest.raises(UsageError, match=r"--hostfile .*hosts of job: .*; a line is HOST slots=N, HOST:N or HOST"):
        find_allocation({}, hostfile=path)


def test_a_hostfile_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        find_allocation({}, hostfile=tmp_path / "none")


@pytest.mark.parametrize(
    "variables, slots, of",
    [
        ({}, [2, 2], "tasks"),
        ({"SLURM_TASKS_PER_NODE": "4,1"}, [4, 1], "tasks"),
        ({"SLURM_GPUS_ON_NODE": "8"}, [8, 8], "GPUs"),
        ({"SLURM_GPUS_ON_NODE": "0"}, [2, 2], "tasks"),
        ({"SLURM_GPUS_PER_NODE": "4"}, [4, 4], "GPUs"),
        ({"SLURM_GPUS_PER_NODE": "a100:6,v100:2", "SLURM_GPUS_ON_NODE": "9"}, [8, 8], "GPUs"),
    ],
)
def test_slurm_gives_gpus_where_there_are_some_and_tasks_otherwise(variables, slots, of):
    expected = found(dict(zip(["n1", "n2"], slots, strict=True)), "Slurm job 17", of)
    assert find_allocation(SLURM | variables) == expected


def test_slurm_tasks_may_differ_between_nodes():
    environment = SLURM | {"SLURM_JOB_NODELIST": "n[1-3,07],login", "SLURM_TASKS_PER_NODE": "2(x3),1,4"}
    assert find_allocation(environment).slots == {"n1": 2, "n2": 2, "n3": 2, "n07": 1, "login": 4}


def test_slurm_without_tasks_gives_cores():
    environment = {name: value for name, value in SLURM.items() if name != "SLURM_TASKS_PER_NODE"}
    assert find_allocation(environment) == found({"n1": 64, "n2": 64}, "Slurm job 17", "CPU cores")


def test_pbs_gives_a_slot_a_line(hostfile):
    path = hostfile("n1.site\nn1.site\nn2.site\nn1.site\n")
    environment = {"PBS_JOBID": "12.server", "PBS_NODEFILE": str(path)}
    assert find_allocation(environment) == found({"n1.site": 3, "n2.site": 1}, "PBS job 12.server")


def test_lsf_gives_numbers_after_hosts():
    environment = {"LSB_JOBID": "5", "LSB_MCPU_HOSTS": "h1 4 h2 16 "}
    assert find_allocation(environment) == found({"h1": 4, "h2": 16}, "LSF job 5")


@pytest.mark.parametrize(
    "variable, text",
    [
        ("OMPI_MCA_orte_default_hostfile", "w-0.w.ns.svc slots=2\nw-1.w.ns.svc slots=2\n"),
        ("I_MPI_HYDRA_HOST_FILE", "w-0.w.ns.svc:2\nw-1.w.ns.svc:2\n"),
        ("HYDRA_HOST_FILE", "w-0.w.ns.svc:2\nw-1.w.ns.svc:2\n"),
    ],
)
def test_an_mpijob_gives_the_file_of_its_mpi(hostfile, variable, text):
    environment = {variable: str(hostfile(text))}
    assert find_allocation(environment) == found({"w-0.w.ns.svc": 2, "w-1.w.ns.svc": 2}, "MPIJob")


def test_without_a_scheduler_it_is_this_host():
    count, of = local_slots()
    assert find_allocation({"PATH": "/bin", "PBS_NODEFILE": ""}) == found({"localhost": count}, "this host", of)


@pytest.mark.parametrize(
    "variable, value",
    [
        ("SLURM_JOB_NODELIST", "n[1-2"),
        ("SLURM_JOB_NODELIST", "n1]"),
        ("SLURM_JOB_NODELIST", "n[1-2],,m"),
        ("SLURM_JOB_NODELIST", "n[]"),
        ("SLURM_JOB_NODELIST", "n[2-1]"),
        ("SLURM_JOB_NODELIST", "n[a-b]"),
        ("SLURM_JOB_NODELIST", "n[[1-2]]"),
        ("SLURM_JOB_NODELIST", "n 1"),
        ("SLURM_JOB_NODELIST", "-oProxyCommand=x"),
        ("SLURM_TASKS_PER_NODE", "2"),
        ("SLURM_TASKS_PER_NODE", "2(x3)"),
        ("SLURM_TASKS_PER_NODE", "0(x2)"),
        ("SLURM_TASKS_PER_NODE", "2x2"),
        ("SLURM_TASKS_PER_NODE", ""),
        ("SLURM_GPUS_ON_NODE", "many"),
        ("SLURM_GPUS_PER_NODE", "a100"),
    ],
)
def test_what_slurm_cannot_mean_is_refused_with_the_way_out(variable, value):
    with pytest.raises(EnvironmentNotReady) as caught:
        find_allocation(SLURM | {variable: value})
    assert str(caught.value).startswith(f"{variable}={value!r}: ")
    assert str(caught.value).endswith("; name the hosts with --hosts HOST:SLOTS,...")


@pytest.mark.parametrize(
    "variable, value",
    [
        ("LSB_MCPU_HOSTS", "h1"),
        ("LSB_MCPU_HOSTS", "h1 4 h2"),
        ("LSB_MCPU_HOSTS", "4 h1"),
        ("LSB_MCPU_HOSTS", "h1 0"),
        ("PBS_NODEFILE", "/no/such/file"),
        ("OMPI_MCA_orte_default_hostfile", "/no/such/file"),
    ],
)
def test_what_other_schedulers_cannot_mean_is_refused_with_the_way_out(variable, value):
    with pytest.raises(EnvironmentNotReady, match=f"^{variable}='{value}': .*; name the hosts with --hosts"):
        find_allocation({variable: value})


def test_slurm_that_counts_nothing_is_refused():
    with pytest.raises(EnvironmentNotReady, match="^SLURM_CPUS_ON_NODE='': "):
        find_allocation({"SLURM_JOB_NODELIST": "n1"})


@pytest.mark.parametrize(
    "nodes, names",
    [
        ("login", ["login"]),
        ("n[1-3,07]", ["n1", "n2", "n3", "n07"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("n[9-10]", ["n9", "n10"]),
        ("gpu-a[01-02]b,login", ["gpu-a01b", "gpu-a02b", "login"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("a,b[5].site,c", ["a", "b5.site", "c"]),
    ],
)
def test_node_lists_are_expanded(nodes, names):
    assert expand_nodes(nodes) == names


@st.composite
def short_and_long_node_lists(draw) -> tuple[str, list[str]]:
    """A node list in Slurm's short form, and the same list written out by counting."""
    short, long = [], []
    for _ in range(draw(st.integers(1, 4))):
        entry = draw(st.text("abz", min_size=1, max_size=3))
        names = [entry]
        for _ in range(draw(st.integers(0, 2))):
            items, numbers = [], []
            for _ in range(draw(st.integers(1, 3))):
                width, first, more = draw(st.integers(1, 4)), draw(st.integers(0, 120)), draw(st.integers(0, 12))
                ends = [f"{number:0{width}}" for number in (first, first + more)]
                items.append("-".join(ends) if more else ends[0])
                numbers += [f"{number:0{width}}" for number in range(first, first + more + 1)]
            literal = draw(st.text("-.x", max_size=2))
            entry += f"[{','.join(items)}]{literal}"
            names = [name + number + literal for name in names for number in numbers]
        short.append(entry)
        long += names
    return ",".join(short), long


@given(short_and_long_node_lists())
def test_expanding_a_node_list_is_counting(lists):
    short, long = lists
    assert expand_nodes(short) == long


@pytest.mark.parametrize(
    "np, hosts", [(1, "a:1"), (8, "a:8"), (9, "a:8,b:1"), (12, "a:8,b:4"), (20, "a:8,b:4,c:8"), (99, "a:8,b:4,c:8")]
)
def test_ranks_take_one_host_after_the_other(np, hosts):
    assert find_allocation({}, hosts="a:8,b:4,c:8").first(np) == parse_hosts(hosts)


@given(st.lists(st.integers(1, 9), min_size=1), st.data())
def test_just_as_many_slots_are_taken_as_there_are_ranks(slots, data):
    allocation = Allocation({f"n{place}": count for place, count in enumerate(slots)}, "--hosts", "slots")
    np = data.draw(st.integers(1, allocation.total))
    assert sum(allocation.first(np).values()) == np


def test_this_host_alone_needs_no_host_list():
    assert find_allocation({}).is_local
    assert find_allocation({}).hosts(1) is None
    assert find_allocation({}, hosts="localhost:4").is_local
    assert not find_allocation({}, hosts="a:4").is_local
    assert not find_allocation({}, hosts="localhost:4,a:4").is_local


def test_mpirun_takes_the_list_of_an_allocation(finish):
    hosts = find_allocation({}, hosts=f"{os.uname().nodename}:8").hosts(2)
    argv = render(Job(np=2, command=("true",), hosts=hosts), {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    assert finish(subprocess.Popen(argv, **pipes)).code == 0


def test_more_ranks_than_slots_are_refused_with_what_was_found_and_the_ways_on():
    allocation = find_allocation(SLURM | {"SLURM_GPUS_ON_NODE": "8"})
    require(allocation, 16)
    with pytest.raises(EnvironmentNotReady) as caught:
        require(allocation, 17)
    assert str(caught.value) == (
        "17 ranks, but Slurm job 17 has 16 GPUs; ask for at most 16, share slots with --oversubscribe (the result is then "
        "marked as not a scaling figure), or predict it with lbsgd project --gpus 17"
    )


@pytest.mark.parametrize(
    "hosts, expected",
    [("a", {"a": 1}), ("a:4,b:8", {"a": 4, "b": 8}), ("a:2,a:3", {"a": 5}), ("10.0.0.1:2", {"10.0.0.1": 2})],
)
def test_hosts_are_slots_by_host(hosts, expected):
    assert parse_hosts(hosts) == expected


@pytest.mark.parametrize("hosts", ["", "a,", "a:", "a:x", "a:0", "a:-1", "a b:2", "-a:2", "a:2;echo no", "a:2\n", "a::2"])
def test_other_host_lists_are_refused(hosts):
    with pytest.raises(UsageError, match="is not HOST or HOST:SLOTS"):
        parse_hosts(hosts)


def test_this_host_has_a_slot_a_core_or_gpu():
    count, of = local_slots()
    assert count >= 1
    assert of in ("GPUs", "CPU cores")
