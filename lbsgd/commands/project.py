"""`lbsgd project`: step time and efficiency for a described cluster, without having it.

Everything printed is a prediction, and says so: nothing is measured here and nothing recorded.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lbsgd.commands.options import POSITIVE
from lbsgd.errors import UsageError
from lbsgd.launch.horovod.defaults import CYCLE_MS, FUSION_BYTES

if TYPE_CHECKING:
    from lbsgd.commands.project_table import Answer
    from lbsgd.projection.backward import Gradient
    from lbsgd.projection.calibration import Constants, Covered, Published
    from lbsgd.projection.cluster import Cluster
    from lbsgd.projection.prediction import Prediction, Workload

BYTES_PER_VALUE = {"fp32": 4, "fp16": 2}


class PositiveNumber(click.FloatRange):
    """A finite number above 0."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


RATE = PositiveNumber()
SHARE = click.FloatRange(0, 1)


def parse_gpus(ctx: click.Context, parameter: click.Parameter, text: str) -> list[int]:
    """ "8,64,256" as numbers, ascending and each once."""
    try:
        counts = sorted({int(part) for part in text.split(",")})
    except ValueError:
        counts = []
    if not counts or counts[0] < 1:
        raise click.BadParameter(f"{text!r} is not a list of numbers of GPUs, such as 8,64,256")
    return counts


@click.command()
@click.option("--gpus", metavar="N,N,..", required=True, callback=parse_gpus, help="Numbers of GPUs to predict.")
@click.option("--step-ms", type=RATE, required=True, help="Measured step time in milliseconds on --baseline-gpus GPUs.")
@click.option("--model", metavar="NAME", help="Network that gives the sizes and the order of the gradients, such as resnet50.")
@click.option("--gradient-mb", type=RATE, help="Size of the gradients as sent, in MB (10^6 bytes), instead of --model.")
@click.option(
    "--first-share",
    type=SHARE,
    help="Part of --gradient-mb that is ready as backward begins, such as a large classifier.  [default: 0]",
)
@click.option(
    "--last-share",
    type=SHARE,
    help="Part of --gradient-mb that is ready only when backward ends, such as an embedding.  [default: a typical one]",
)
@click.option(
    "--dtype",
    type=click.Choice(list(BYTES_PER_VALUE)),
    default="fp32",
    show_default=True,
    help="Data type of the gradients of --model.",
)
@click.option(
    "--baseline-gpus", type=POSITIVE, default=1, show_default=True, help="Number of GPUs on which --step-ms was measured."
)
@click.option("--gpus-per-node", type=POSITIVE, default=8, show_default=True, help="GPUs per node.")
@click.option("--network-gbit", type=RATE, help="Nominal network rate of a node in Gbit/s, all cards together.")
@click.option("--transport", type=click.Choice(["tcp", "rdma"]), default="tcp", show_default=True, help="Network protocol.")
@click.option(
    "--intra-node",
    type=click.Choice(["nvlink", "pcie"]),
    default="nvlink",
    show_default=True,
    help="Link between the GPUs of a node.",
)
@click.option(
    "--allreduce",
    type=click.Choice(["nccl", "mpi", "gloo"]),
    default="nccl",
    show_default=True,
    help="Library that sums: nccl on the GPUs; mpi on the CPUs; gloo on the CPUs between nodes, as in the paper.",
)
@click.option(
    "--overlap",
    type=click.Choice(["none", "full"]),
    default="full",
    show_default=True,
    help="When gradients are sent: after backward (none), or fused as they become ready (full).",
)
@click.option(
    "--fusion-mb",
    type=click.FloatRange(min=0),
    default=FUSION_BYTES / 1e6,
    show_default="134.2, Horovod's 128 MiB",
    help="Size in MB up to which gradients are fused; 0: send each by itself.",
)
@click.option(
    "--cycle-ms",
    type=click.FloatRange(min=0),
    default=CYCLE_MS,
    show_default=True,
    help="Horovod's cycle time (HOROVOD_CYCLE_TIME).",
)
@click.option(
    "--calibrate",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Measured allreduce: JSON of `lbsgd bench allreduce`, instead of the cluster's description. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def project(
    gpus: list[int],
    step_ms: float,
    model: str | None,
    gradient_mb: float | None,
    first_share: float | None,
    last_share: float | None,
    dtype: str,
    baseline_gpus: int,
    overlap: str,
    fusion_mb: float,
    cycle_ms: float,
    calibrate: tuple[Path, ...],
    as_json: bool,
    **cluster: Any,
) -> None:
    """Predict the efficiency of training on a hypothetical cluster.

    A communication model, calibrated on published measurements, estimates how much of it the backward pass hides and names the
    bottleneck. It cannot know what is wrong with a real cluster: measure with `lbsgd bench` where you can.

    \b
      lbsgd project --gpus 8,64,256 --network-gbit 50 --model resnet50 --step-ms 250
    """
    from lbsgd.commands.project_table import as_json_object, as_text
    from lbsgd.projection.calibration import published
    from lbsgd.projection.cluster import Cluster
    from lbsgd.projection.measured_allreduce import measured_collective, read_measured
    from lbsgd.projection.overlap import Fusion
    from lbsgd.projection.prediction import Workload, predict

    known = published()
    constants = known.constants
    workload = Workload(
        step=step_ms / 1e3,
        baseline_gpus=baseline_gpus,
        gradients=_gradients(model, gradient_mb, (first_share, last_share), dtype, constants),
        overlap=overlap == "full",
        fusion=Fusion(threshold=fusion_mb * 1e6, cycle=cycle_ms / 1e3),
    )
    described, measured = Cluster(**cluster), read_measured(calibrate) if calibrate else None
    predictions = predict(
        workload,
        lambda ranks: measured_collective(measured, ranks) if measured else described.collective(constants, ranks),
        constants,
        gpus,
    )
    answer = _answer(known, described, measured, workload, predictions, model)
    click.echo(json.dumps(as_json_object(answer), indent=2) if as_json else as_text(answer))


def _answer(
    known: "Published",
    cluster: "Cluster",
    measured: dict[int, Any] | None,
    workload: "Workload",
    predictions: "Sequence[Prediction]",
    model: str | None,
) -> "Answer":
    """The predictions with their bands, what they assume, and what nobody has published."""
    from lbsgd.commands.project_table import Answer
    from lbsgd.projection.error_band import narrowest_known

    gpus, fused = [prediction.gpus for prediction in predictions], workload.fusion.threshold > 0
    wanted = [cluster.kinds(ranks, fused=fused) for ranks in gpus]
    kinds = [narrowest_known(known.error_bands, names) for names in wanted]
    return Answer(
        baseline_gpus=workload.baseline_gpus,
        predictions=predictions,
        kinds=kinds,
        bands={kind: known.error_bands[kind] for kind in kinds},
        assumptions=[
            *_communication(cluster, measured, known.constants),
            *_computation(workload, known.constants, model, sum(gradient.size for gradient in workload.gradients)),
        ],
        unknown=_unknown(cluster, workload.baseline_gpus, gpus, wanted, kinds, known.covered),
        calibrated=bool(measured),
    )


def _gradients(
    model: str | None, megabytes: float | None, shares: tuple[float | None, float | None], dtype: str, constants: "Constants"
) -> "list[Gradient]":
    from lbsgd.models import MODELS, describe
    from lbsgd.projection.backward import generic_profile, network_profile

    if (model is None) == (megabytes is None):
        raise UsageError("give either --model NAME or --gradient-mb MB: what is sent decides the communication")
    if megabytes is not None:
        first, last = shares[0] or 0.0, constants.last_share if shares[1] is None else shares[1]
        if first + last > 1:
            raise UsageError(f"--first-share {first:g} and --last-share {last:g} are more than the whole")
        return generic_profile(megabytes * 1e6, first, last)
    if shares != (None, None):
        raise UsageError("--first-share and --last-share go with --gradient-mb; the layers of --model are known")
    if model not in MODELS:
        raise UsageError(f"--model {model}: the layers of {', '.join(MODELS)} are known here; give --gradient-mb for others")
    return network_profile(describe(model, 1000), BYTES_PER_VALUE[dtype])


def _communication(cluster: "Cluster", measured: dict[int, Any] | None, constants: "Constants") -> list[str]:
    if measured:
        return [f"allreduce as measured on {', '.join(map(str, sorted(measured)))} ranks, scaled as a ring to others"]
    network = "no network" if cluster.network_gbit is None else f"{cluster.network_gbit:g} Gbit/s, {cluster.transport}"
    ceiling = {
        "tcp": f"{constants.tcp_share:.0%} of the network's rate, {constants.tcp_gbit:.3g} Gbit/s at most",
        "rdma": f"{constants.rdma_share:.0%} of the network's rate",
    }[cluster.transport]
    bus = {"nvlink": constants.nvlink_gbyte, "pcie": constants.pcie_gbyte}[cluster.intra_node]
    rates = [
        f"{cluster.transport} reaches {ceiling}",
        f"{cluster.intra_node} {bus:.3g} GB/s in a ring, {constants.bus_share:.0%} of it while backward runs",
    ]
    if cluster.allreduce == "mpi":
        host = f"{constants.mpi_gbyte:.2g} GB/s of sums in a host's memory"
        shared = f", shared by {cluster.gpus_per_node} ranks" if cluster.gpus_per_node > 1 else ""
        rates.append(f"{constants.copy_gbyte:.2g} GB/s between a GPU and its host, {host}{shared}")
    elif cluster.allreduce == "gloo":
        rates.append(f"{constants.gloo_gbyte:.2g} GB/s through a host's memory")
    return [f"{cluster.gpus_per_node} GPUs per node, {network}, {cluster.intra_node}, {cluster.allreduce}", "; ".join(rates)]


def _unknown(
    cluster: "Cluster",
    baseline_gpus: int,
    gpus: Sequence[int],
    wanted: Sequence[Sequence[str]],
    kinds: Sequence[str],
    covered: "Covered",
) -> list[str]:
    """What no published measurement tells of such a cluster."""
    found = dict.fromkeys(
        f"{names[0]}: too few published systems are of this kind; the band is that of {kind}"
        for ranks, names, kind in zip(gpus, wanted, kinds, strict=True)
        if names[0] != kind and ranks != baseline_gpus
    )
    if gpus[-1] > covered.gpus[1]:
        found[f"more than {covered.gpus[1]} GPUs: none were published"] = None
    low, high = covered.network_gbit
    if cluster.network_gbit and not low <= cluster.network_gbit <= high:
        found[f"a network of {cluster.network_gbit:g} Gbit/s: {low:g} to {high:g} were published"] = None
    low, high = covered.cpu_sums_gpus_per_node
    if cluster.allreduce == "mpi" and not low <= cluster.gpus_per_node <= high:
        many = f"{low}" if low == high else f"{low} to {high}"
        found[f"how {cluster.gpus_per_node} ranks share a host's memory: published MPI sums are of {many} a host"] = None
    return list(found)


def _computation(workload: Any, constants: "Constants", model: str | None, size: float) -> list[str]:
    order = f"{model}'s layers" if model else "a generic network"
    when = "as they become ready, while backward runs" if workload.overlap else "after backward"
    from lbsgd.commands.project_table import gpus_text

    baseline = gpus_text(workload.baseline_gpus)
    return [
        f"{size / 1e6:.4g} MB of gradients in the order of {order}, sent {when}",
        f"backward is {constants.backward_share:.0%} of a step of {workload.step * 1e3:g} ms on {baseline}",
        f"steps of different workers vary by {constants.straggler_spread:.1%}, and each step waits for the slowest",
    ]
