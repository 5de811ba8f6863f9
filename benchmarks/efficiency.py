"""Can the scaling efficiency that every run records be believed? Each claim of docs/scaling.md, measured on this machine.

What is true is known in each row: one worker has nothing to scale, a cost that was put in must come out, equal jobs must read
alike, and measuring must change neither what a run computes nor how fast it is.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import click
from json_option import json_option
from pairs import summarise

FRAMEWORKS = ("torch", "tensorflow")
RANKS = Path(__file__).with_name("efficiency_ranks.py")
POSITIVE = click.IntRange(min=1)
ALONE_MS = 20.0
"""A worker's own arithmetic, on the reference backend."""
STEP_MS = 10.0
"""About what a step of the demo's network takes."""
SHARES = (0.0, 0.05, 0.20)
"""Of a step: the cost that is put in."""
STRAGGLER = 1.3


@click.command(context_settings={"show_default": True})
@click.option("--repeats", type=POSITIVE, default=5, help="Equal jobs, and pairs of jobs.")
@click.option("--runs", type=POSITIVE, default=20, help="Runs of each cost that is known.")
@click.option("--row", "wanted", multiple=True, help="Only this row. Repeatable.  [default: all]")
@json_option
def main(file: Path | None, repeats: int, runs: int, wanted: tuple[str, ...]) -> None:
    """Measure how far the recorded scaling efficiency can be trusted."""
    rows: dict[str, Callable[[], dict[str, Any]]] = {
        "one worker": one_worker,
        "bias": lambda: bias(repeats),
        "known cost": lambda: known_cost(runs),
        "known straggler": lambda: known_straggler(runs),
        "equal jobs, idle": lambda: equal_jobs(repeats),
        "equal jobs, two busy loops": lambda: under_load(repeats),
        "losses": losses,
        "cost": lambda: cost(repeats),
        "bench": bench,
    }
    if unknown := set(wanted) - set(rows):
        raise click.UsageError(f"no row {', '.join(unknown)}; there are {', '.join(rows)}")
    load, found = os.getloadavg()[0], {}
    for name in wanted or rows:
        found[name] = rows[name]()
        click.echo(f"{name}: {json.dumps(found[name]['figures'])}; target: {found[name]['target']}")
        if file:
            environment = {"cores": os.cpu_count(), "load_average": [load, os.getloadavg()[0]]}
            report = {"schema": 1, "command": shlex.join(["python", *sys.argv]), "rows": found, "environment": environment}
            file.write_text(json.dumps(report, indent=2) + "\n")


def one_worker() -> dict[str, Any]:
    """What a run of one worker records."""
    raw = {name: train(name, 1) for name in FRAMEWORKS}
    figures = {name: [one["scaling"]["efficiency"], one["time_split"]["communication"]] for name, one in raw.items()}
    return {"target": "no efficiency, communication 0", "figures": figures, "raw": {k: about(v) for k, v in raw.items()}}


def bias(repeats: int) -> dict[str, Any]:
    """What one rank reads when it takes measured steps although it has nothing to scale."""
    raw = {name: on_ranks(1, framework=name, steps=300, runs=repeats) for name in FRAMEWORKS}
    figures = {name: summarise([one["efficiency"] for one in of]) | {"within_interval": within(of)} for name, of in raw.items()}
    return {"target": "1, inside the interval", "figures": figures, "raw": raw}


def known_cost(runs: int) -> dict[str, Any]:
    """Two ranks of torch, on the demo's network: what is recorded, against a clock around steps of both kinds."""
    figures, raw = {}, {}
    for share in SHARES:
        cost_ms = STEP_MS * share / (1 - share)
        of = raw[str(share)] = on_ranks(2, framework="torch", cost_ms=cost_ms, steps=300, runs=runs)
        off = [100 * (one["efficiency"] - one["true"]) for one in of]
        true = median(one["true"] for one in of)
        figures[str(share)] = {"true": true, "points_off": summarise(off), "within_interval": within(of)}
    return {"target": "within 2 points; inside the interval in 90 % of the runs", "figures": figures, "raw": raw}


def within(runs: list[dict[str, Any]]) -> float:
    """Share of the runs whose interval holds what is true."""
    return sum(one["interval"][0] <= one["true"] <= one["interval"][1] for one in runs) / len(runs)


def known_straggler(runs: int) -> dict[str, Any]:
    """On the reference backend, rank 1 computes 1.3 times as long: half of the difference is the mean wait."""
    cost_ms, slow = 1.0, STRAGGLER * ALONE_MS
    of = on_ranks(2, framework="reference", compute_ms=[ALONE_MS, slow], cost_ms=cost_ms, steps=120, runs=runs)
    true = {"waiting": (slow - ALONE_MS) / 2 / (slow + cost_ms), "communication": cost_ms / (slow + cost_ms)}
    figures = {
        name: summarise([100 * (one[name] / one["step"] - share) for one in of]) | {"true_share": share}
        for name, share in true.items()
    }
    return {"target": "waiting and communication within 3 points", "figures": figures, "raw": of}


def equal_jobs(repeats: int) -> dict[str, Any]:
    """The demo on two workers, again and again."""
    raw = {name: [train(name, 2) for _ in range(repeats)] for name in FRAMEWORKS}
    figures = {}
    for name, of in raw.items():
        values = [100 * one["scaling"]["efficiency"] for one in of]
        figures[name] = {"spread_points": max(values) - min(values), "values": values}
    return {"target": "spread of 8 points", "figures": figures, "raw": {name: list(map(about, of)) for name, of in raw.items()}}


def under_load(repeats: int) -> dict[str, Any]:
    with busy_loops(2):
        return equal_jobs(repeats)


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """As many processes that compute all the time."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for one in loops:
            one.kill()
            one.wait()


def losses() -> dict[str, Any]:
    """Whether measuring changes a single bit of what two workers compute."""
    figures = {name: train(name, 2)["losses"] == train(name, 2, "--efficiency-every", "0")["losses"] for name in FRAMEWORKS}
    return {"target": "equal", "figures": figures}


def cost(repeats: int) -> dict[str, Any]:
    """Images per second of runs that measure over those of runs that do not, in turns; and the cost that a run records."""
    figures, raw = {}, {}
    for name in FRAMEWORKS:
        pairs, own = [], []
        for number in range(repeats):
            of = {}
            for every in ("50", "0") if number % 2 else ("0", "50"):
                of[every] = train(name, 2, "--efficiency-every", every, "--epochs", "40")
            pairs.append([of[every]["throughput"]["images_per_second"] for every in ("50", "0")])
            own.append(of["50"]["scaling"]["cost"])
        raw[name] = pairs
        figures[name] = {"ratio": summarise([one / other for one, other in pairs]), "recorded_cost": summarise(own)}
    return {"target": "0.99", "figures": figures, "raw": raw}


def bench() -> dict[str, Any]:
    """The demo's job by a run and by a study."""
    figures, raw = {}, {}
    for name in FRAMEWORKS:
        run = train(name, 2)["scaling"]
        with tempfile.TemporaryDirectory() as folder:
            length = ("--repeats", "3", "--steps", "100", "--warm-up", "20", "--json")
            job = ("--recipe", "demo", "--data", "synthetic:train=1442,val=355,classes=10,size=8")
            study = json.loads(call("lbsgd", "bench", "--gpus", "2", "--framework", name, *job, "--runs", folder, *length))
        alone = study["sizes"][0]["against_alone"]
        raw[name] = {"run": run, "bench": alone}
        overlap = min(run["interval"][1], alone["interval"][1]) >= max(run["interval"][0], alone["interval"][0])
        figures[name] = {"run": run["efficiency"], "bench": alone["efficiency"], "intervals_overlap": overlap}
    return {"target": "intervals overlap", "figures": figures, "raw": raw}


def train(framework: str, workers: int, *options: str) -> dict[str, Any]:
    """run.json of the demo, with its losses."""
    with tempfile.TemporaryDirectory() as folder:
        call("lbsgd", "data", "demo", f"{folder}/digits")
        job = ("--framework", framework, "--recipe", "demo", "--epochs", "10", "--data", f"{folder}/digits")
        call("lbsgd", "train", "--np", str(workers), *job, "--run-dir", f"{folder}/run", *options)
        record = json.loads(Path(f"{folder}/run/run.json").read_text())
        lines = map(json.loads, Path(f"{folder}/run/metrics.jsonl").read_text().splitlines())
        return record | {"losses": [line["loss"] for line in lines if line["kind"] == "step"]}


def about(record: dict[str, Any]) -> dict[str, Any]:
    """What of a run's record is kept."""
    return {name: record[name] for name in ("command", "scaling", "time_split", "throughput")}


def on_ranks(count: int, **what: Any) -> list[dict[str, Any]]:
    """What efficiency_ranks.py says on so many ranks."""
    ranks = ("mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(count))
    return json.loads(call(*ranks, sys.executable, str(RANKS), json.dumps(what)).split("REPORT", 1)[1])


def call(*command: str) -> str:
    """Standard output of a command; leave with what it said when it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{shlex.join(command)} failed:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
