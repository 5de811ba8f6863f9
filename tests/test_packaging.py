"""What is installed: the package list, what a wheel holds, and that importing lbsgd loads no framework."""

import ast
import configparser
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("lbsgd", "backends", "launch")
FRAMEWORKS = {"torch", "tensorflow", "keras", "horovod", "timm"}


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path, everywhere: bool) -> Iterator[str]:
    """The names of what a file imports: everywhere, or only as it is loaded."""
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)


def test_the_package_list_is_that_of_the_folders():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    folders = {path.parent.relative_to(ROOT) for path in modules(*SOURCES)}
    names = {".".join(folder.parts) for folder in folders}
    assert sorted(listed) == sorted(name if name.startswith("lbsgd") else f"lbsgd.{name}" for name in names)
    assert [folder for folder in folders if not (ROOT / folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("path", [*modules("lbsgd"), *(ROOT / "backends").glob("*.py")], ids=lambda p: str(p.relative_to(ROOT)))
def test_no_framework_is_imported_when_a_module_is_loaded(path):
    assert [name for name in imports(path, everywhere=False) if name.split(".")[0] in FRAMEWORKS] == []


def test_the_mapped_folders_are_only_imported_below_lbsgd():
    bare = {path: name for path in modules(*SOURCES, "tests", "benchmarks") for name in imports(path, everywhere=True)
            if name.split(".")[0] in ("backends", "launch")}  # fmt: skip
    assert bare == {}


def test_a_framework_s_backend_imports_no_other_framework():
    for framework, others in (("torch", {"tensorflow", "keras"}), ("tensorflow", {"torch", "timm"})):
        found = {name.split(".")[0] for path in modules(f"backends/{framework}") for name in imports(path, everywhere=True)}
        assert framework in found
        assert not found & others


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a copy of the checkout: building leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(folder / "source")], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder with lbsgd from its wheel; the dependencies stay those of this environment."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*pip, str(wheel)], check=True)
    return folder


def test_the_wheel_holds_every_module_and_recipe_and_nothing_else(installed):
    expected = {path.relative_to(ROOT) for folder in SOURCES for path in (ROOT / folder).rglob("*")
                if path.suffix in (".py", ".toml") or (path.parent.name == "templates" and path.is_file())}  # fmt: skip
    mapped = {path if path.parts[0] == "lbsgd" else Path("lbsgd") / path for path in expected}
    found = {path.relative_to(installed) for path in (installed / "lbsgd").rglob("*") if path.is_file()}
    assert {path for path in found if path.suffix != ".pyc"} == mapped
    tops = {path.name for path in installed.iterdir()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"bin", "lbsgd"}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["plan", "--recipe", "demo", "--samples", "1442"]])
def test_the_installed_command_runs_outside_of_the_checkout(installed, lbsgd, tmp_path, arguments):
    environment = {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    result = lbsgd(*arguments, script=installed / "bin" / "lbsgd", env=environment, cwd=tmp_path)
    assert result.code == 0, result.stderr
    assert result.stdout


def test_the_installed_packages_are_found_in_the_wheel(installed, tmp_path):
    code = (
        "import importlib.util, sys\n"
        "names = 'lbsgd lbsgd.policy.recipes lbsgd.launch.mpirun lbsgd.backends.torch lbsgd.backends.tensorflow'\n"
        "print(*(importlib.util.find_spec(name).origin for name in names.split()), sep='\\n')\n"
        "sys.exit(bool({'torch', 'tensorflow', 'horovod'} & set(sys.modules)))\n"
    )
    environment = {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert all(Path(line).is_relative_to(installed) for line in done.stdout.splitlines()), done.stdout
