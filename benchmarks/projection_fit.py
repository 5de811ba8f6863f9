"""Fits the constants of `lbsgd project` on the published rows and writes lbsgd/projection/constants.toml.

Needs scipy (`pip install 'lbsgd[demo]'`), a few minutes, and no accelerator. Also writes, for each system, the constants that
the others alone give: projection_held_out.toml, from which projection_error.py makes the leave-one-system-out figures.
"""

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
from published_scaling import HELD_OUT, Row, error_bands, read_rows
from scipy.optimize import least_squares

from lbsgd.models import MODELS
from lbsgd.projection.calibration import Constants

CONSTANTS = Path(__file__).parents[1] / "lbsgd/projection/constants.toml"

# Where each constant starts and how freely it moves: the standard deviation of its logarithm under the prior.
PRIORS = {
    "backward_share": (0.62, 0.1),  # backward has twice the multiplications of forward; the optimizer takes some time too
    "straggler_spread": (0.015, 0.7),
    "communication_spread": (0.1, 0.7),
    "bus_share": (0.65, 0.3),
    "last_share": (0.12, 0.5),
    "pcie_gbyte": (5.5, 0.5),  # PCIe 3 x16 without peer access
    "nvlink_gbyte": (80.0, 0.5),  # NVLink 1 and 2
    "tcp_gbit": (17.0, 0.4),
    "tcp_share": (0.95, 0.02),  # headers of Ethernet, IP and TCP
    "rdma_share": (0.9, 0.05),
    "copy_gbyte": (6.0, 0.2),  # PCIe 3 x16, not pinned throughout
    "mpi_gbyte": (2.5, 0.5),
    "gloo_gbyte": (1.8, 0.5),  # several allreduces in flight (the paper, section 4.2)
    "call_us": (60.0, 1.0),
    "bus_us": (6.0, 0.5),  # NCCL's tuning table
    "tcp_us": (30.0, 0.6),  # MG-WFBP's measured latencies
    "rdma_us": (10.0, 0.6),
    "host_us": (60.0, 0.8),
}
SCALE = 0.05
"""Residual of efficiency from which on a row counts for less and less (Cauchy loss): published rows contradict one another."""


def fit(rows: Sequence[Row]) -> Constants:
    """Maximum a posteriori. A system with n rows counts as sqrt(n); residual networks count by name and by size."""
    cases = [(row, by_model) for row in rows for by_model in (True, False)[: 1 + (row.cells["model"] in MODELS)]]
    count = Counter(row.family for row, _ in cases)
    weights = np.array([count[row.family] ** -0.25 for row, _ in cases])

    def residuals(logarithms: np.ndarray) -> np.ndarray:
        constants = _constants(logarithms)
        errors = np.array([row.predict(constants, by_model=by_model) - row.efficiency for row, by_model in cases]) / SCALE
        return np.concatenate([weights / weights.mean() * np.sqrt(np.log1p(errors**2)), 0.7 * logarithms])

    return _constants(least_squares(residuals, np.zeros(len(PRIORS)), diff_step=1e-3, max_nfev=30).x)


def _constants(logarithms: np.ndarray) -> Constants:
    """From how many prior standard deviations each constant is off its start."""
    pairs = zip(PRIORS.items(), logarithms, strict=True)
    return Constants(**{name: start * math.exp(spread * value) for (name, (start, spread)), value in pairs})


def covered(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Least and greatest values of what the model was fitted on."""
    networks = [row.cluster.network_gbit for row in rows if row.cells["nodes"] != "1"]
    on_cpu = [row.cluster.gpus_per_node for row in rows if row.cluster.allreduce == "mpi"]
    found = {"gpus": [row.gpus for row in rows], "network_gbit": networks, "cpu_sums_gpus_per_node": on_cpu}
    return {name: [min(values), max(values)] for name, values in found.items()}


def write(path: Path, comment: str, tables: dict[str, dict[str, float | list[float]]]) -> None:
    lines = [f"# {comment}"]
    for title, values in tables.items():
        lines += ["", f"[{title}]", *(f"{name} = {_toml(value)}" for name, value in values.items())]
    path.write_text("\n".join(lines) + "\n")


def _toml(value: float | list[float]) -> str:
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list) else f"{value:.4g}"


def main() -> None:
    rows = [row for row in read_rows() if row.network_stated]
    families = sorted({row.family for row in rows})
    with ProcessPoolExecutor() as pool:
        fits = pool.map(fit, [rows, *([row for row in rows if row.family != family] for family in families)])
        constants, *without = fits
    held_out = dict(zip(families, without, strict=True))
    written_by = "Written by benchmarks/projection_fit.py from benchmarks/scaling_published.csv"
    tables = {f'"{family}"': asdict(constants) for family, constants in held_out.items()}
    write(HELD_OUT, f"{written_by}: the constants without the rows of each system.", tables)
    tables = {"constants": asdict(constants), "covered": covered(rows)}
    bands = error_bands(rows, [row.predict(held_out[row.family]) for row in rows])
    tables |= {f'error_bands."{kind}"': asdict(band) for kind, band in bands.items()}
    write(CONSTANTS, f"{written_by}; units in calibration.py.", tables)


if __name__ == "__main__":
    main()
