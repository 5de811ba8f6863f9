"""Fixtures that several test files share. Commands run as real processes, through the installed console script."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""What a shell puts in the background ignores SIGINT, under nohup SIGHUP too; commands under test would inherit that."""

SCRIPT = Path(sys.executable).with_name("lbsgd")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="Fail when a test was skipped.")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line of what was skipped, at the very end. A skip's reason says what is missing and how to get it."""
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", []))
    if reasons:
        terminalreporter.write_line("skipped: " + "; ".join(f"{count}: {reason}" for reason, count in reasons.items()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.option.no_skips and reporter.stats.get("skipped") and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@dataclass(frozen=True)
class Finished:
    """A process that ended by itself."""

    code: int
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        """The lines of standard error that are lbsgd's own: all but mpirun's boxed notices and tagged lines."""
        own, boxed = [], False
        for line in self.stderr.splitlines():
            if line.startswith("-----"):
                boxed = not boxed
            elif not boxed and line.strip() and not line.startswith("["):
                own.append(line)
        return own


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.startswith("LBSGD_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_reader_left_behind():
    """A test that leaves threads reading disturbs those that come after it."""
    yield
    left = [thread for thread in threading.enumerate() if thread.name.startswith("lbsgd-data")]
    for thread in left:
        thread.join(1.0)
    assert not [thread.name for thread in left if thread.is_alive()]


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """The demo data set. Not to be changed."""
    from lbsgd.data.demo import write_demo

    folder = tmp_path_factory.mktemp("data") / "digits"
    write_demo(folder)
    return folder


@pytest.fixture(scope="session")
def finish() -> Callable[..., Finished]:
    """finish(process, timeout): wait for a process; one that hangs is killed with all its children, and the test fails."""

    def finish(process: subprocess.Popen, timeout: float = 120.0) -> Finished:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            for hanging in (*psutil.Process(process.pid).children(recursive=True), process):
                hanging.kill()
            stdout, stderr = process.communicate()
            pytest.fail(f"{process.args} did not end within {timeout} s\n{stdout}\n{stderr}")
        return Finished(process.returncode, stdout, stderr)

    return finish


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen]:
    """start("train", ..., env={...}): `lbsgd train ...` as a process; `env` is added to the environment."""

    def start(*arguments: object, script: object = SCRIPT, env: dict | None = None, **options) -> subprocess.Popen:
        command = [str(script), *map(str, arguments)]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env={**os.environ, **(env or {})}, **pipes | options)

    return start


@pytest.fixture(scope="session")
def lbsgd(start, finish) -> Callable[..., Finished]:
    """lbsgd("plan", "--np", 8): run the command to its end."""

    def lbsgd(*arguments: object, timeout: float = 120.0, **options) -> Finished:
        return finish(start(*arguments, **options), timeout)

    return lbsgd


@pytest.fixture(params=["with space", 'quo\'te "double"', "a; echo no", "new\nline"])
def hostile_dir(request, tmp_path) -> Path:
    """An empty folder whose name a shell, or careless code, would take apart."""
    folder = tmp_path / request.param
    folder.mkdir()
    return folder
