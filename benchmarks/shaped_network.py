"""Communication over networks of known rates: is the cable full, and does `lbsgd project` say what training waits for?

The hosts are the tests' cluster on one machine, so root is needed, and what its cores cannot do is not seen. In every round
allreduce is measured, training is measured, and what the first predicts is held against the second.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from json_option import json_option
from pairs import summarise

from lbsgd.commands.options import FRAMEWORK
from lbsgd.launch.horovod.defaults import CYCLE_MS, FUSION_BYTES

ROOT = Path(__file__).parent.parent
LEAST_OF_LINE_RATE, LARGE = 0.85, 16 * 2**20
MOST_OFF = 0.15
SWEEP = ["-b", "64K", "-e", "64M", "-f", "4", "-w", "1"]
POSITIVE = click.IntRange(min=1)
Settings = dict[str, Any]


@click.command(context_settings={"show_default": True})
@click.option("--hosts", type=POSITIVE, multiple=True, default=(2, 4), help="Hosts, one rank on each. Repeatable.")
@click.option("--gbit", type=float, multiple=True, default=(1.0, 10.0), help="Gbit/s of every cable, each way. Repeatable.")
@click.option("--framework", type=FRAMEWORK, default="torch", help="What executes the steps.")
@click.option("--model", default="resnet18", help="What is trained, in fp32.")
@click.option("--batch", type=POSITIVE, default=4, help="Images per rank and step.")
@click.option("--size", type=POSITIVE, default=96, help="Pixels a side of an image.")
@click.option("--steps", type=POSITIVE, default=8, help="Steps of each kind that training is measured by in a round.")
@click.option("--iterations", type=POSITIVE, default=7, help="Sums of each size in a round.")
@click.option(
    "--own-core/--shared-core",
    default=True,
    help="Ranks compute on one core and communicate on another, as beside an accelerator; or do both on the same.",
)
@click.option("--rounds", type=POSITIVE, default=5, help="Rounds of each network.")
@json_option
def main(file: Path | None, **settings: Any) -> None:
    """Measure allreduce and training between hosts on one machine, over networks of known rates."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}  # Open MPI cannot know that hosts share cores
    report = measure(settings)
    click.echo(table(report))
    if file:
        file.write_text(json.dumps(report, indent=2) + "\n")


def measure(settings: Settings) -> dict[str, Any]:
    """The content of the JSON file."""
    sys.path.append(str(ROOT))
    from tests.cluster.hosts import cluster, whats_missing

    if reason := whats_missing():
        raise click.ClickException(f"this machine cannot be a cluster: {reason}")
    load, networks = os.getloadavg()[0], []
    cores = keep_cores_apart() if settings["own_core"] else None
    with tempfile.TemporaryDirectory() as folder, cluster(max(settings["hosts"]), Path(folder), cores) as hosts:
        for count in settings["hosts"]:
            for gbit in settings["gbit"]:
                hosts.limit(gbit)
                rounds = [measure_round(settings, hosts.hosts[:count], gbit, number) for number in range(settings["rounds"])]
                networks.append({"hosts": count, "gbit": gbit, "rounds": rounds, **summary(rounds)})
    return {
        "schema": 1,
        "command": shlex.join(["python", *sys.argv]),
        "settings": settings,
        "targets": {"of_line_rate": LEAST_OF_LINE_RATE, "measured_over_predicted": [1 - MOST_OFF, 1 + MOST_OFF]},
        "networks": networks,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [load, os.getloadavg()[0]],
    }


def keep_cores_apart() -> list[int]:
    """The cores that hosts compute with: all but the last, where Horovod's threads of all hosts go."""
    *computing, communicating = sorted(os.sched_getaffinity(0))
    if not computing:
        raise click.ClickException("there is one core only; give --shared-core")
    os.environ["HOROVOD_THREAD_AFFINITY"] = str(communicating)
    return computing


def measure_round(settings: Settings, hosts: list, gbit: float, number: int) -> dict[str, Any]:
    """Allreduce, training, and what the one says about the other."""
    click.echo(f"{len(hosts)} hosts, {gbit:g} Gbit/s, round {number + 1} of {settings['rounds']}", err=True)
    with tempfile.TemporaryDirectory() as folder:
        allreduce = run_on(hosts, "bench", "allreduce", *SWEEP, "-n", settings["iterations"])
        study = run_on(hosts, "bench", "--gpus", len(hosts), "--runs", folder, *training(settings))
        calibration = Path(folder) / "allreduce.json"
        calibration.write_text(json.dumps(allreduce))
        measured = study["sizes"][0]["parts_ms"]
        predicted = predict(settings, len(hosts), measured["compute"] + measured["waiting"], calibration)
    return {
        "of_line_rate": shares_of_line_rate(allreduce["rows"], gbit),
        "allreduce": allreduce["rows"],
        "parts_ms": measured,
        "allreduce_ms": study["sizes"][0]["allreduce_ms"],
        "predicted": predicted,
        "measured_over_predicted": measured["communication"] / predicted["exposed_ms"],
        "environment": study["environment"],
    }


def training(settings: Settings) -> list[Any]:
    """The options of a study with one round."""
    recipe = ["--model", settings["model"], "--batch-per-gpu", settings["batch"], "--set", f"images.size={settings['size']}"]
    return ["--framework", settings["framework"], *recipe, "--steps", settings["steps"], "--warm-up", 2, "--repeats", 1]


def run_on(hosts: list, *arguments: Any) -> dict[str, Any]:
    """What `lbsgd ... --hosts all of them --json` says, started on the first."""
    options = ("--hosts", ",".join(host.name for host in hosts), "--interface", "eth0", "--json")
    return json.loads(hosts[0].run("lbsgd", *arguments, *options, timeout=1200))


def predict(settings: Settings, gpus: int, step_ms: float, calibration: Path) -> dict[str, Any]:
    """What `lbsgd project` says of this many ranks whose step takes so long without communication."""
    workload = ["--gpus", gpus, "--step-ms", step_ms, "--model", settings["model"]]
    horovod = ["--allreduce", "mpi", "--fusion-mb", FUSION_BYTES / 1e6, "--cycle-ms", CYCLE_MS]
    command = ["lbsgd", "project", *workload, *horovod, "--calibrate", calibration, "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, check=True, text=True)
    return json.loads(done.stdout)["predictions"][0]


def shares_of_line_rate(rows: list[dict[str, Any]], gbit: float) -> dict[str, float]:
    """For each way, its least bus bandwidth of large arrays over the cable's rate; in place, as training sums."""
    shares: dict[str, float] = {}
    for row in rows:
        if row["bytes"] >= LARGE and row["in_place"]:
            share = 8 * row["busbw"] / gbit
            shares[row["through"]] = min(share, shares.get(row["through"], share))
    return shares


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds and their spread."""
    return {
        "of_line_rate": {way: summarise([one["of_line_rate"][way] for one in rounds]) for way in rounds[0]["of_line_rate"]},
        "exposed_ms": summarise([one["parts_ms"]["communication"] for one in rounds]),
        "predicted_ms": summarise([one["predicted"]["exposed_ms"] for one in rounds]),
        "compute_ms": summarise([one["parts_ms"]["compute"] for one in rounds]),
        "measured_over_predicted": summarise([one["measured_over_predicted"] for one in rounds]),
    }


def table(report: dict[str, Any]) -> str:
    """The report for people: medians, and extremes in brackets."""
    lines = [
        f"allreduce of 16 MiB and more over the cable's rate (target: at least {LEAST_OF_LINE_RATE:g}), and exposed "
        f"communication over its prediction (within {MOST_OFF:.0%}); {report['cores']} cores",
        f"{'hosts':>5}{'Gbit/s':>8}{'MPI alone':>24}{'Horovod':>24}{'exposed ms':>24}{'predicted ms':>24}{'ratio':>24}",
    ]
    for network in report["networks"]:
        rates = (network["of_line_rate"]["mpi4py"], network["of_line_rate"]["horovod"])
        figures = (
            *(text(rate, ".2f") for rate in rates),
            text(network["exposed_ms"], ".0f"),
            text(network["predicted_ms"], ".0f"),
            text(network["measured_over_predicted"], ".2f"),
        )
        lines.append(f"{network['hosts']:5}{network['gbit']:8g}" + "".join(figure.rjust(24) for figure in figures))
    return "\n".join(lines)


def text(figure: dict[str, Any], form: str) -> str:
    return f"{figure['median']:{form}} [{figure['min']:{form}}, {figure['max']:{form}}]"


if __name__ == "__main__":
    main()
