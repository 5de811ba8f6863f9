"""Writes the generated part of docs/projection.md: every published row, measured beside what `lbsgd project` predicts.

Needs nothing but lbsgd, and takes seconds: the constants were fitted by projection_fit.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median, quantiles

from published_scaling import Row, error_bands, held_out_constants, read_rows

from lbsgd.projection.calibration import published
from lbsgd.projection.error_band import ErrorBand, narrowest_known

PAGE = Path(__file__).parents[1] / "docs/projection.md"
BEGIN, END = "<!-- begin: written by benchmarks/projection_error.py -->", "<!-- end -->"


@dataclass(frozen=True)
class Result:
    """Efficiencies of a row as predicted: as it is, by constants without the rows of its system, told the gradients' size
    instead of the model's name, and with fusion whether it had it or not."""

    row: Row
    predicted: float
    held_out: float
    by_size: float
    fused: float

    def is_held(self, band: ErrorBand) -> bool:
        """Whether the row lies inside a band around what the other systems predict."""
        return abs(self.held_out - self.row.efficiency) <= band.half_width(self.held_out)

    def error(self, predicted: float) -> float:
        """In points of efficiency; more than 0: predicted too high."""
        return 100 * (predicted - self.row.efficiency)


def results() -> list[Result]:
    constants = published().constants
    held_out = held_out_constants()
    return [
        Result(
            row,
            row.predict(constants),
            # A system of which no row is fitted has nothing to be left out.
            row.predict(held_out.get(row.family, constants)),
            row.predict(constants, by_model=False),
            replace(row, fused=True).predict(constants),
        )
        for row in read_rows()
    ]


def page(found: Sequence[Result]) -> str:
    sections = [summary(found), "### By kind", by_kind(found), strict_coverage(found)]
    sections += ["### By system", by_system(found), "### Every row", every_row(found)]
    return "\n\n".join([BEGIN, *sections, END])


def summary(found: Sequence[Result]) -> str:
    stated = [result for result in found if result.row.network_stated]
    cases = [
        ("all rows", [result.error(result.predicted) for result in found]),
        ("rows whose source states the network", [result.error(result.predicted) for result in stated]),
        ("the same, each system left out of the fit", [result.error(result.held_out) for result in stated]),
        ("all rows, each system left out of the fit", [result.error(result.held_out) for result in found]),
        ("all rows, given `--gradient-mb` instead of `--model`", [result.error(result.by_size) for result in found]),
        ("all rows, without `--fusion-mb 0` for those that did not fuse", [result.error(result.fused) for result in found]),
    ]
    lines = [(name, f"{len(errors)}", *_points(errors)) for name, errors in cases]
    return table(["absolute error, points of efficiency", "rows", "median", "90th percentile", "mean, with sign"], lines)


def by_kind(found: Sequence[Result]) -> str:
    """Of the rows that have each band: whether it holds them."""
    stated = [result for result in found if result.row.network_stated]
    bands = published().error_bands
    lines = []
    for kind, band in sorted(bands.items()):
        own = [result for result in stated if narrowest_known(bands, result.row.kinds) == kind]
        held = f"{sum(result.is_held(band) for result in own)} of {len(own)}" if own else ""
        lines.append(
            (kind, *map(str, (band.systems, band.rows, band.median_points, band.p90_points)), f"{band.relative:.2f}", held)
        )
    columns = [
        "kind",
        "systems",
        "rows",
        "median",
        "90th percentile",
        "band / (0.03 + e (1 - e))",
        "rows of no narrower kind inside",
    ]
    return table(columns, lines)


def strict_coverage(found: Sequence[Result]) -> str:
    """The same with bands that the row's own system had no part in."""
    stated = [result for result in found if result.row.network_stated]
    held = 0
    for family in {result.row.family for result in stated}:
        others = [result for result in stated if result.row.family != family]
        bands = error_bands([result.row for result in others], [result.held_out for result in others])
        own = [result for result in stated if result.row.family == family]
        held += sum(result.is_held(bands[narrowest_known(bands, result.row.kinds)]) for result in own)
    share = f"{100 * held / len(stated):.0f} %"
    return f"With bands from the errors of the other systems alone, {held} of {len(stated)} rows ({share}) lie inside."


def by_system(found: Sequence[Result]) -> str:
    families = dict.fromkeys(result.row.family for result in found)
    lines = []
    for family in families:
        of_family = [result for result in found if result.row.family == family]
        fitted = [result.error(result.predicted) for result in of_family]
        left_out = [result.error(result.held_out) for result in of_family]
        worst = max(map(abs, left_out))
        lines.append((family, f"{len(fitted)}", *_signed(fitted), *_signed(left_out), f"{worst:.1f}"))
    columns = ["system", "rows", "median abs. error", "mean error", "median, left out", "mean, left out", "worst, left out"]
    return table(columns, lines)


def every_row(found: Sequence[Result]) -> str:
    lines = []
    for result in found:
        cells = result.row.cells
        network = f"{cells['net_gbps_per_node'] or '?'} Gbit/s" if cells["nodes"] != "1" else "one node"
        lines.append(
            (
                cells["system"],
                cells["model"],
                f"{cells['baseline_gpus']} -> {cells['gpus']}",
                f"{network}, {cells['transport']}",
                cells["algorithm"],
                f"{100 * result.row.efficiency:.1f}",
                f"{100 * result.predicted:.1f}",
                f"{result.error(result.predicted):+.1f}",
                f"{result.error(result.held_out):+.1f}",
            )
        )
    columns = ["system", "model", "GPUs", "network", "allreduce", "measured %", "predicted %", "error", "error, left out"]
    return table(columns, lines)


def table(columns: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    columns = list(columns)
    rows = [columns, ["---"] * len(columns), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _points(errors: Sequence[float]) -> tuple[str, str, str]:
    sizes = list(map(abs, errors))
    p90 = quantiles(sizes, n=10, method="inclusive")[-1]
    return f"{median(sizes):.1f}", f"{p90:.1f}", f"{fmean(errors):+.1f}"


def _signed(errors: Sequence[float]) -> tuple[str, str]:
    return f"{median(map(abs, errors)):.1f}", f"{fmean(errors):+.1f}"


def with_generated_part(text: str, part: str) -> str:
    """The page with what lies between its two marks replaced."""
    before, rest = text.split(BEGIN)
    return before + part + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(with_generated_part(PAGE.read_text(), page(results())))
