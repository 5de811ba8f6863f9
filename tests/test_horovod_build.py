"""Building Horovod: the edits, the cache's names, what is missing, what failed. The build itself is slow."""

import dataclasses
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock

from lbsgd.errors import EnvironmentNotReady
from lbsgd.launch.horovod.build import (
    build_facts,
    build_variables,
    build_wheel,
    compile_wheel,
    entry_name,
    link_nccl,
    require_libraries,
)
from lbsgd.launch.horovod.cuda import Cuda, Nccl, find_cuda, find_nccl, framework_obstacles
from lbsgd.launch.horovod.installed import BUILD_FACTS, inspect_horovod, require_horovod
from lbsgd.launch.horovod.progress import ProgressLines, first_error, percent_done
from lbsgd.launch.horovod.report import examine, report_lines
from lbsgd.launch.horovod.sdist import EDITS, SDIST, SHA256, XLA_EDIT, apply_edits, edits_for, fetch
from lbsgd.launch.horovod.toolchain import Mpi, Toolchain, find_mpi, inspect_toolchain, recognize_mpi

CPU = Toolchain({"torch": "2.13.0+cpu", "tensorflow": "2.21.0"}, Mpi("Open MPI", "4.1.8", None), "g++ 12", None, ())
NCCL = Nccl("2.28.9", Path("/site/nvidia/nccl/include"), Path("/site/nvidia/nccl/lib/libnccl.so.2"))
CUDA = Cuda("13.0", Path("/usr/local/cuda-13.0"), NCCL, "80,90")


# The source


def write_source(folder, edits=(*EDITS, XLA_EDIT)):
    for edit in edits:
        path = folder / edit.path
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if path.exists() else ""
        path.write_text(f"{before}# line\n{edit.old}")


def test_every_edit_is_applied(tmp_path):
    write_source(tmp_path)
    apply_edits(tmp_path, edits_for("2.21.0"))
    for edit in EDITS:
        assert edit.new in (tmp_path / edit.path).read_text()
    assert "xla_mpi_ops" not in (tmp_path / XLA_EDIT.path).read_text()


@pytest.mark.parametrize("tensorflow, dropped", [("2.15.1", False), ("2.16.1", True), ("2.21.0", True), (None, False)])
def test_the_xla_operator_goes_where_the_headers_are_gone(tensorflow, dropped):
    assert (XLA_EDIT in edits_for(tensorflow)) is dropped


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.path)
def test_an_edit_without_its_text_stops_the_build(tmp_path, edit):
    write_source(tmp_path, [other for other in EDITS if other != edit])
    with pytest.raises(EnvironmentNotReady, match=f"{edit.path} has .* 0 times"):
        apply_edits(tmp_path, EDITS)


def test_an_edit_whose_text_is_there_twice_stops_the_build(tmp_path):
    write_source(tmp_path, [*EDITS, EDITS[0]])
    with pytest.raises(EnvironmentNotReady, match=f"{EDITS[0].path} has .* 2 times"):
        apply_edits(tmp_path, EDITS)


def test_a_file_that_is_not_the_released_source_is_refused(tmp_path):
    (tmp_path / SDIST).write_bytes(b"something else")
    with pytest.raises(EnvironmentNotReady, match=SHA256):
        fetch(tmp_path)


def test_without_an_index_nothing_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr("lbsgd.launch.horovod.sdist.download", lambda folder: pytest.fail("pip was asked"))
    with pytest.raises(
        EnvironmentNotReady, match="--no-index, and horovod-0.28.1.tar.gz is not in .*; give the file with --sdist"
    ):
        fetch(tmp_path, index=False)


def test_a_missing_source_is_named_before_anything_is_compiled(tmp_path, lbsgd):
    found = lbsgd("horovod", "build", "--no-index", "--cache", tmp_path / "cache")
    assert found.code == 3
    assert "give the file with --sdist" in found.stderr
    assert "building Horovod" not in found.stderr


# The cache


def test_the_name_of_an_entry_tells_what_is_in_it():
    name = entry_name(build_facts(CPU))
    assert name.startswith("horovod0.28.1-python3.")
    assert "-torch2.13.0+cpu-tensorflow2.21.0-openmpi4.1.8-cpu-" in name


@pytest.mark.parametrize(
    "change",
    [
        {"frameworks": {"torch": "2.12.0+cpu", "tensorflow": "2.21.0"}},
        {"frameworks": {"torch": "2.13.0+cpu"}},
        {"mpi": Mpi("Open MPI", "5.0.3", None)},
        {"mpi": Mpi("Open MPI", "4.1.8", Path("/opt/openmpi"))},
        {"compiler": "g++ 13"},
        {"cuda": CUDA},
    ],
    ids=str,
)
def test_another_toolchain_is_another_entry(change):
    other = dataclasses.replace(CPU, **change)
    assert entry_name(build_facts(other)) != entry_name(build_facts(CPU))


def test_warnings_do_not_change_the_entry():
    assert entry_name(build_facts(dataclasses.replace(CPU, warnings=("a",)))) == entry_name(build_facts(CPU))


def test_a_wheel_in_the_cache_is_taken_and_the_lock_given_back(tmp_path):
    entry = tmp_path / entry_name(build_facts(CPU))
    entry.mkdir()
    wheel = entry / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl"
    wheel.touch()
    said = []
    assert build_wheel(CPU, tmp_path, sdist=None, index=True, force=False, jobs=1, progress=no_build, say=said.append) == wheel
    assert said == [f"found in the cache: {wheel}"]
    with FileLock(entry / "lock", timeout=0):
        pass


def no_build():
    pytest.fail("a build was started")


def test_a_cache_that_cannot_be_written_says_what_to_give(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentNotReady, match="--cache"):
        build_wheel(CPU, tmp_path / "file", sdist=None, index=True, force=False, jobs=1, progress=no_build, say=print)


# What Horovod is told


def test_frameworks_that_are_not_asked_for_are_switched_off(tmp_path):
    variables = build_variables(dataclasses.replace(CPU, frameworks={"torch": "2.13.0+cpu"}), 3, tmp_path)
    assert variables["HOROVOD_WITH_PYTORCH"] == variables["HOROVOD_WITHOUT_TENSORFLOW"] == "1"
    assert "HOROVOD_GPU_OPERATIONS" not in variables
    assert variables["MAKEFLAGS"] == "-j3"


def test_a_second_controller_is_not_built(tmp_path):
    variables = build_variables(CPU, 1, tmp_path)
    assert variables["HOROVOD_WITHOUT_GLOO"] == variables["HOROVOD_WITH_MPI"] == "1"


def test_nccl_is_found_wherever_pip_put_it(monkeypatch, tmp_path):
    """As where an environment lies upon another one that has torch."""
    below = tmp_path / "below"
    below.mkdir()
    write_distribution(below, "nvidia_nccl_cu13", "2.28.9")
    (below / "nvidia/nccl/include").mkdir(parents=True)
    numbers = "".join(f"#define NCCL_{part} {n}\n" for part, n in (("MAJOR", 2), ("MINOR", 28), ("PATCH", 9)))
    (below / "nvidia/nccl/include/nccl.h").write_text(numbers)
    (below / "nvidia/nccl/lib").mkdir()
    (below / "nvidia/nccl/lib/libnccl.so.2").touch()
    monkeypatch.syspath_prepend(below)
    found = find_nccl("13.0", None)
    assert (found.version, found.library.parent.parent) == ("2.28.9", below / "nvidia/nccl")


def test_nccl_is_linked_by_the_name_that_cmake_looks_for(tmp_path):
    toolchain = dataclasses.replace(CPU, cuda=CUDA)
    folder = link_nccl(toolchain, tmp_path)
    variables = build_variables(toolchain, 1, folder)
    assert Path(variables["HOROVOD_NCCL_LIB"], "libnccl.so").readlink() == NCCL.library
    assert variables["HOROVOD_GPU_OPERATIONS"] == "NCCL"
    assert variables["CUDA_HOME"] == variables["HOROVOD_CUDA_HOME"] == str(CUDA.home)


# What is missing


def test_everything_that_is_missing_is_reported_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(EnvironmentNotReady) as error:
        inspect_toolchain((), "cpu")
    for part in (
        "no framework",
        "wheel, packaging",
        "no C++ compiler",
        "no cmake",
        "no make",
        "no mpicxx and no mpirun",
    ):
        assert part in str(error.value)


def test_a_framework_asked_for_but_not_installed_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(EnvironmentNotReady, match=r"torch is not installed: pip install 'lbsgd\[torch\]'"):
        inspect_toolchain(("torch",), "cpu")


@pytest.mark.parametrize(
    "text, found",
    [
        ("mpirun (Open MPI) 4.1.8\n\nReport bugs to ...", ("Open MPI", "4.1.8")),
        ("/usr/bin/mpicxx: Open MPI 5.0.3 (Language: C++)", ("Open MPI", "5.0.3")),
        ("MPICH Version:      4.2.3\nMPICH Release date: ...", ("MPICH", "4.2.3")),
        ("HYDRA build details:\n    Version:                                 4.2.3\n", ("MPICH", "4.2.3")),
        ("g++: error: unrecognized command-line option '--showme:version'", None),
    ],
)
def test_mpi_is_recognized_by_what_it_prints(text, found):
    assert recognize_mpi(text) == found


def write_script(path, output):
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(0o755)


def test_a_wrapper_and_an_mpirun_of_two_mpis_are_refused(monkeypatch, tmp_path):
    write_script(tmp_path / "mpicxx", "mpicxx: Open MPI 4.1.8 (Language: C++)")
    write_script(tmp_path / "mpirun", "mpirun (Open MPI) 5.0.3")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    missing = []
    assert find_mpi(missing) is None
    assert "4.1.8" in missing[0] and "5.0.3" in missing[0]


# CUDA


def write_framework(site, name, version, constants, text):
    (site / f"{name}-{version}.dist-info").mkdir(parents=True)
    (site / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    (site / constants).parent.mkdir(parents=True)
    (site / constants).write_text(text)


@pytest.fixture
def gpu_torch_and_cpu_tensorflow(monkeypatch, tmp_path):
    build_info = "tensorflow/python/platform/build_info.py"
    write_framework(tmp_path, "torch", "2.13.0", "torch/version.py", "cuda = '13.0'\n")
    write_framework(tmp_path, "tensorflow", "2.21.0", build_info, "build_info = {'is_cuda_build': False}\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("gpu, operations, refused", [(False, "auto", 0), (True, "auto", 1), (False, "nccl", 1)])
def test_frameworks_for_different_devices(monkeypatch, gpu_torch_and_cpu_tensorflow, gpu, operations, refused):
    monkeypatch.setattr("lbsgd.launch.horovod.cuda.gpu_present", lambda: gpu)
    missing = []
    cuda, warnings = find_cuda(("torch", "tensorflow"), operations, missing)
    assert cuda is None
    assert (len(missing), len(warnings)) == (refused, 1 - refused)
    assert "torch CUDA 13.0, tensorflow CPU" in (missing + warnings)[0]


def test_cpu_operations_need_no_cuda(gpu_torch_and_cpu_tensorflow):
    assert find_cuda(("torch", "tensorflow"), "cpu", []) == (None, [])


@pytest.mark.parametrize(
    "versions, obstacles",
    [
        ({"torch": "13.0"}, 0),
        ({"torch": "12.8", "tensorflow": "12.5.1"}, 0),
        ({"torch": "13.0", "tensorflow": "12.5.1"}, 1),
        ({"torch": "13.0", "tensorflow": None}, 1),
        ({"torch": None}, 1),
    ],
)
def test_frameworks_share_one_cuda(versions, obstacles):
    assert len(framework_obstacles(versions)) == obstacles


# Progress and failure


@pytest.mark.parametrize(
    "line, percent",
    [
        ("  [ 42%] Building CXX object a.cc.o", 42),
        ("[100%] Built target pytorch", 100),
        ("  copying 42% of it", None),
    ],
)
def test_percent_of_a_line(line, percent):
    assert percent_done(line) == percent


def test_progress_is_told_at_each_tenth_and_after_a_quiet_time():
    now, told = [0.0], []
    with ProgressLines(told.append, clock=lambda: now[0]) as progress:
        for seconds, line in [
            (1, "[  3%] a"),
            (2, "[ 10%] b"),
            (3, "[ 12%] c"),
            (20, "[ 13%] d"),
            (21, "[ 15%] e"),
        ]:
            now[0] = float(seconds)
            progress.line(line)
    assert told[1:] == ["building Horovod: 10 % after 2 s", "building Horovod: 13 % after 20 s"]


LOG = """\
[ 41%] Building CXX object a.cc.o
a.cc:12:10: fatal error: highwayhash/arch_specific.h: No such file or directory
   12 | #include "highwayhash/arch_specific.h"
compilation terminated.
make[2]: *** [a.cc.o] Error 1
"""


def test_the_first_error_is_shown_with_its_context():
    assert first_error(LOG.splitlines()).splitlines()[0].startswith("a.cc:12:10: fatal error: highwayhash")
    assert "compilation terminated." in first_error(LOG.splitlines())


def test_a_source_that_does_not_compile_leaves_its_log_and_first_error(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "setup.py").write_text("raise SystemExit('a.cc:1:1: error: not C++')\n")
    lines = []
    with pytest.raises(EnvironmentNotReady, match=f"{tmp_path}/build.log\n *a.cc:1:1: error: not C"):
        compile_wheel(source, tmp_path / "wheel", {}, tmp_path / "build.log", lines.append)
    assert "".join(lines) == (tmp_path / "build.log").read_text()


def test_a_wheel_without_a_library_is_refused(tmp_path):
    wheel = tmp_path / "horovod.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("horovod/torch/mpi_lib_v2.cpython-311-x86_64-linux-gnu.so", b"")
    require_libraries(wheel, ["torch"], tmp_path / "build.log")
    with pytest.raises(EnvironmentNotReady, match="without its library for tensorflow"):
        require_libraries(wheel, ["torch", "tensorflow"], tmp_path / "build.log")


# What is installed


def write_distribution(site, name, version):
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")


def write_horovod(site, **built_for):
    """A Horovod as its wheel lies in site-packages, libraries being empty files."""
    write_distribution(site, "horovod", "0.28.1")
    for library, name in (("torch/mpi_lib_v2", "pytorch"), ("tensorflow/mpi_lib", "tensorflow")):
        path = site / "horovod" / f"{library}.cpython-311-x86_64-linux-gnu.so"
        path.parent.mkdir(parents=True)
        if name in built_for:
            path.touch()
    (site / "horovod" / "metadata.json").write_text(json.dumps({**built_for, "dummy": "none"}))


@pytest.fixture
def site(monkeypatch, tmp_path):
    """An empty site-packages, the only folder in which distributions are looked for."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def test_a_framework_that_is_not_installed_is_refused(site):
    with pytest.raises(EnvironmentNotReady, match=r"pip install 'lbsgd\[tensorflow\]'"):
        require_horovod("tensorflow")


def test_a_missing_horovod_is_refused(site):
    write_distribution(site, "torch", "2.13.0")
    with pytest.raises(EnvironmentNotReady, match="not installed; run `lbsgd horovod build`"):
        require_horovod("torch")


def test_a_horovod_without_the_framework_is_refused(site):
    write_distribution(site, "torch", "2.13.0")
    write_distribution(site, "tensorflow_cpu", "2.21.0")
    write_horovod(site, pytorch="2.13.0")
    require_horovod("torch")
    with pytest.raises(EnvironmentNotReady, match="built without tensorflow; run `lbsgd horovod build`"):
        require_horovod("tensorflow")


def test_a_horovod_for_another_release_is_a_problem_and_its_builder_is_unknown(site):
    write_distribution(site, "torch", "2.13.0+cpu")
    write_horovod(site, pytorch="2.12.1")
    report = examine(lambda framework: {"device": "cpu", "mpi": True, "gloo": True, "nccl": False, "cuda": False})
    assert report["horovod"]["built_by"] == "unknown"
    assert report["problems"] == ["Horovod was built for torch 2.12.1, but torch is 2.13.0+cpu; run `lbsgd horovod build`"]
    assert not report["ready"]


def test_the_local_part_of_a_version_is_no_other_release(site):
    write_distribution(site, "torch", "2.13.0")
    write_horovod(site, pytorch="2.13.0+cu130")
    assert inspect_horovod().mismatches({"torch": "2.13.0"}) == []


def test_a_framework_that_was_left_out_is_a_problem_unless_only_the_other_is_asked_for(site):
    write_distribution(site, "torch", "2.13.0")
    write_distribution(site, "tensorflow", "2.21.0")
    write_horovod(site, pytorch="2.13.0")
    assert "built without tensorflow" in examine(lambda framework: {})["problems"][0]
    assert examine(lambda framework: {}, ("torch",))["ready"]


def test_the_report_names_what_failed(site):
    def fail(framework):
        raise EnvironmentNotReady(f"Horovod does not work with {framework}: no result")

    write_distribution(site, "torch", "2.13.0")
    write_horovod(site, pytorch="2.13.0")
    (site / "horovod" / BUILD_FACTS).write_text(
        json.dumps({"lbsgd": "0.1.0", "mpi": ["Open MPI", "4.1.8", ""], "compiler": ["g++ 12", ""]})
    )
    report = examine(fail)
    assert report["problems"] == ["Horovod does not work with torch: no result"]
    lines = "\n".join(report_lines(report))
    assert "built by lbsgd 0.1.0" in lines and "Open MPI 4.1.8, g++ 12" in lines and "allreduce failed" in lines


def test_an_environment_without_frameworks_says_what_to_install(site):
    report = examine(lambda framework: pytest.fail("nothing to verify"))
    assert report["horovod"] is None
    assert "pip install 'lbsgd[torch]'" in report["problems"][0]


def test_requiring_horovod_imports_no_framework():
    code = (
        "import sys, lbsgd.launch.horovod.installed as check\n"
        "for name in check.installed_frameworks(): check.require_horovod(name)\n"
        "assert not {'torch', 'tensorflow', 'horovod'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_released_source_builds_for_the_first_framework_here(tmp_path):
    from lbsgd.launch.horovod.installed import installed_frameworks

    first = next(iter(installed_frameworks()))
    toolchain = inspect_toolchain((first,), "auto")
    wheel = build_wheel(
        toolchain, tmp_path, sdist=None, index=True, force=False, jobs=2, progress=lambda: ProgressLines(print), say=print
    )
    facts = json.loads(zipfile.ZipFile(wheel).read(f"horovod/{BUILD_FACTS}"))
    assert facts["frameworks"] == toolchain.frameworks
