"""The published scaling measurements, scaling_published.csv, as what `lbsgd project` would be given for each.

Assumptions where a source says too little are made here, none in lbsgd: see `describe_row`.
"""

import csv
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median

from lbsgd.models import MODELS, describe
from lbsgd.projection.backward import Gradient, generic_profile, network_profile
from lbsgd.projection.calibration import Constants
from lbsgd.projection.cluster import Cluster
from lbsgd.projection.error_band import COVERAGE, ErrorBand, quantile, scale
from lbsgd.projection.overlap import Fusion
from lbsgd.projection.prediction import Workload, predict

CSV = Path(__file__).with_name("scaling_published.csv")
HELD_OUT = Path(__file__).with_name("projection_held_out.toml")
"""For each system the constants that the other systems' rows give, by projection_fit.py."""

UNSTATED_GBIT = 4.3
"""Azure's virtual machines, whose source does not name the Ethernet's rate: what fits their own P100 rows."""

SHARES = {"vgg16": (0.893, 0.0), "bert-base": (0.0, 0.218), "bert-large": (0.0, 0.095)}
"""As --first-share and --last-share: a network's values in its fully connected layers, and in its embeddings, by the
shapes that were published."""

NVLINKED = ("DGX", "NVIDIA", "p3.16xlarge", "Big Basin")
LEAST_SYSTEMS, LEAST_ROWS = 2, 8
"""What a kind of system needs to have a band of its own."""

FUSION = Fusion(threshold=64e6, cycle=5e-3)
NO_FUSION = replace(FUSION, threshold=0)


@dataclass(frozen=True)
class Row:
    """A measurement. cells: the row of the file; family: what is left out together in the leave-one-system-out figures."""

    cells: dict[str, str]
    cluster: Cluster
    overlap: bool
    fused: bool

    @property
    def family(self) -> str:
        system = self.cells["system"]
        return "NVIDIA, one node" if system.startswith("NVIDIA") else system

    @property
    def gpus(self) -> int:
        return int(self.cells["gpus"])

    @property
    def efficiency(self) -> float:
        return float(self.cells["efficiency"])

    @property
    def kinds(self) -> list[str]:
        return self.cluster.kinds(self.gpus, fused=self.fused)

    @property
    def network_stated(self) -> bool:
        return bool(self.cells["net_gbps_per_node"]) or self.cells["nodes"] == "1"

    def predict(self, constants: Constants, *, by_model: bool = True) -> float:
        """The efficiency, told the model's name where lbsgd knows it (`by_model`) or only the gradient's size."""
        workload = Workload(
            step=float(self.cells["baseline_step_ms"]) / 1e3,
            baseline_gpus=int(self.cells["baseline_gpus"]),
            gradients=self._gradients(constants, by_model),
            overlap=self.overlap,
            fusion=FUSION if self.fused else NO_FUSION,
        )
        (prediction,) = predict(workload, lambda ranks: self.cluster.collective(constants, ranks), constants, [self.gpus])
        return prediction.efficiency

    def _gradients(self, constants: Constants, by_model: bool) -> list[Gradient]:
        size = float(self.cells["grad_MB"]) * 1e6
        if not (by_model and self.cells["model"] in MODELS):
            first, last = SHARES.get(self.cells["model"], (0.0, constants.last_share))
            return generic_profile(size, first, last)
        return _profile(self.cells["model"], size)


@cache
def _profile(model: str, size: float) -> list[Gradient]:
    network = describe(model, 1000)
    return network_profile(network, round(size / sum(parameter.size for parameter in network.parameters.values())))


def error_bands(rows: Sequence[Row], predicted: Sequence[float]) -> dict[str, ErrorBand]:
    """Of each kind of which enough rows and systems are there. predicted: each row's efficiency, without its own system."""
    members: dict[str, list[tuple[Row, float]]] = {}
    for row, prediction in zip(rows, predicted, strict=True):
        for kind in row.kinds:
            members.setdefault(kind, []).append((row, prediction))
    return {kind: _band(of) for kind, of in members.items() if enough(row for row, _ in of)}


def enough(rows: Iterable[Row]) -> bool:
    """Whether a kind of these rows has a band of its own."""
    rows = list(rows)
    return len(rows) >= LEAST_ROWS and len({row.family for row in rows}) >= LEAST_SYSTEMS


def _band(members: Sequence[tuple[Row, float]]) -> ErrorBand:
    errors = [abs(predicted - row.efficiency) for row, predicted in members]
    shares = [error / scale(predicted) for error, (_, predicted) in zip(errors, members, strict=True)]
    return ErrorBand(
        rows=len(members),
        systems=len({row.family for row, _ in members}),
        median_points=round(100 * median(errors), 1),
        p90_points=round(100 * quantile(errors, COVERAGE), 1),
        relative=quantile(shares, COVERAGE),
    )


def held_out_constants() -> dict[str, Constants]:
    return {family: Constants(**values) for family, values in tomllib.loads(HELD_OUT.read_text()).items()}


def read_rows() -> list[Row]:
    with CSV.open(newline="") as file:
        return [describe_row(cells) for cells in csv.DictReader(file)]


def describe_row(cells: dict[str, str]) -> Row:
    """The cluster in the words of `lbsgd project`.

    RDMA where the source names it. TensorFlow's parameter server inside one node, of which the interface knows nothing, counts
    as nccl. MG-WFBP's merging counts as fusion. Overlap unless the source says otherwise.
    """
    algorithm = cells["algorithm"].lower()
    cluster = Cluster(
        gpus_per_node=int(cells["gpus_per_node"]),
        network_gbit=float(cells["net_gbps_per_node"] or UNSTATED_GBIT),
        transport="rdma" if "RDMA" in cells["transport"] else "tcp",
        intra_node="nvlink" if any(name in cells["system"] for name in NVLINKED) else "pcie",
        allreduce=next((name for name in ("mpi", "gloo") if name in algorithm), "nccl"),
    )
    fused = "no fusion" not in algorithm and "per tensor" not in algorithm
    return Row(cells, cluster, "no overlap" not in algorithm, fused)
