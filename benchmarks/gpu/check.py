"""Everything that a GPU is needed for, in one command: builds, proves, measures, within a number of minutes.

    make gpu-kit
    python3 benchmarks/gpu/check.py --kit build/gpu-kit --out results --minutes 9

Runs on a machine with torch and no network; standard library only. Parts are ordered by worth. Each is a process of its own, so
that a crash or a time limit costs only that part, and what it had measured until then is kept. After each part the results are
in <out>/<card>.json; page.py makes a page of such files.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from environment import Environment, make_environment

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Part:
    """A program beside this file. seconds: its share of nine minutes; what one part leaves over goes to the next."""

    name: str
    seconds: int


PARTS = (
    Part("build", 170),
    Part("allreduce", 40),
    Part("parity", 75),
    Part("step", 140),
    Part("input", 70),
    Part("commands", 45),
)


def main() -> None:
    given = arguments()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lbsgd-gpu-") as scratch:
        report = Report(given)
        environment = report.prepare(lambda: make_environment(Path(scratch, "environment"), given.kit.resolve()))
        if environment is None:
            sys.exit(1)
        chosen = [part for part in PARTS if not given.part or part.name in given.part]
        scale = (60 * given.minutes - (time.monotonic() - started)) / sum(part.seconds for part in chosen)
        spare = 0.0
        for part in chosen:
            limit = part.seconds * scale + spare
            spare = limit - report.run(part, environment, Path(scratch), limit)
    print(report.file, flush=True)
    sys.exit(any(part["status"] not in ("passed", "skipped") for part in report.content["parts"].values()))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kit", type=Path, required=True, help="What `make gpu-kit` made.")
    parser.add_argument("--out", type=Path, required=True, help="Folder for the results.")
    parser.add_argument("--minutes", type=float, default=9.0, help="When to be done. [default: 9]")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="[default: cuda]")
    parser.add_argument("--rehearse", action="store_true", help="Small networks and few steps, to try the programs themselves.")
    parser.add_argument("--part", action="append", choices=[part.name for part in PARTS], help="This part only. Repeatable.")
    return parser.parse_args()


class Report:
    """The results, on disk after each part."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        machine = describe_machine(given.device)
        given.out.mkdir(parents=True, exist_ok=True)
        card = machine["gpu"] or "cpu"
        self.file = given.out / f"{'-'.join(card.lower().split())}{'-rehearsal' if given.rehearse else ''}.json"
        kit = json.loads((given.kit / "kit.json").read_text())
        self.content: dict[str, Any] = {
            "schema": 1,
            "started": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "rehearsal": given.rehearse,
            "device": given.device,
            "machine": machine,
            "kit": {name: kit[name] for name in ("python_tag", "git_commit", "bytes")},
            "parts": {},
        }

    def prepare(self, make: Any) -> Environment | None:
        """The environment; None when it could not be made, which is then in the results."""
        started = time.monotonic()
        try:
            environment = make()
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            self.keep("environment", "failed", started, {}, str(error))
            return None
        self.keep("environment", "passed", started, {}, None)
        return environment

    def run(self, part: Part, environment: Environment, scratch: Path, limit: float) -> float:
        """Run a part for `limit` seconds at most; the seconds it took."""
        started = time.monotonic()
        output, log = scratch / f"{part.name}.json", scratch / f"{part.name}.log"
        command = [environment.python, str(HERE / "part.py"), part.name, "--output", str(output)]
        command += ["--device", self.given.device, "--seconds", f"{0.9 * limit:.0f}", "--scratch", str(scratch)]
        command += ["--kit", str(self.given.kit.resolve()), *(["--rehearse"] if self.given.rehearse else [])]
        code = run_bounded(command, variables(environment, self.given.device, scratch), log, limit)
        result = json.loads(output.read_text()) if output.exists() else {}
        failed = [name for name, check in result.get("checks", {}).items() if not check["passed"]]
        status = {0: "passed", None: "out of time"}.get(code, "failed")
        reason = f"checks missed: {', '.join(failed)}" if failed else None if code == 0 else last_lines(log)
        self.keep(part.name, "failed" if failed and code == 0 else status, started, result, reason)
        return time.monotonic() - started

    def keep(self, name: str, status: str, started: float, result: dict[str, Any], reason: str | None) -> None:
        """Put what is known of a part into the file, at once and whole."""
        seconds = time.monotonic() - started
        self.content["parts"][name] = {**result, "status": status, "seconds": round(seconds, 1), "reason": reason}
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(self.content, indent=1) + "\n")
        partial.replace(self.file)
        print(f"{name}: {status} after {seconds:.0f} s{f': {reason}' if reason else ''}", flush=True)


def variables(environment: Environment, device: str, scratch: Path) -> dict[str, str]:
    """The environment variables of a part."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    kept = {"XDG_CACHE_HOME": str(scratch / "cache"), "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor")}
    return environment.variables | hidden | kept


def run_bounded(command: list[str], environment: dict[str, str], log: Path, limit: float) -> int | None:
    """The exit code of a command, None when it and all its children were killed after `limit` seconds."""
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def last_lines(log: Path, count: int = 12) -> str:
    """The end of what a part printed."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:])


def describe_machine(device: str) -> dict[str, Any]:
    """Names and versions; no host names."""
    card = None
    if device == "cuda":
        query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader"]
        card = [
            field.strip() for field in subprocess.run(query, capture_output=True, text=True).stdout.split("\n")[0].split(",")
        ]
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "gpu": card[0] if card else None,
        "gpu_memory": card[1] if card else None,
        "driver": card[2] if card else None,
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
