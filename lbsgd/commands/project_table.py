"""What `lbsgd project` answers, as text and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lbsgd.commands.text_table import aligned
from lbsgd.projection.error_band import COVERAGE, ErrorBand
from lbsgd.projection.prediction import Prediction

SCHEMA = "lbsgd.project/2"
METHOD = "published measurements, each predicted without its own system"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """kinds: of each prediction, the kind of system whose band it has. assumptions, and what published measurements cannot tell
    (`unknown`): a sentence each. calibrated: whether allreduce was measured, which that of no published system was."""

    baseline_gpus: int
    predictions: Sequence[Prediction]
    kinds: Sequence[str]
    bands: Mapping[str, ErrorBand]
    assumptions: Sequence[str]
    unknown: Sequence[str]
    calibrated: bool

    def interval(self, number: int) -> tuple[float, float]:
        """The efficiency of a prediction and its band, in fractions; the baseline's own is known."""
        prediction = self.predictions[number]
        if prediction.gpus == self.baseline_gpus:
            return prediction.efficiency, prediction.efficiency
        half = self.bands[self.kinds[number]].half_width(prediction.efficiency)
        return max(0.0, prediction.efficiency - half), prediction.efficiency + half


def as_text(answer: Answer) -> str:
    cells: list[tuple[str, ...]] = [("GPUs", "step ms", "efficiency", "band", "waiting ms", "exposed ms", "bottleneck")]
    for number, (gpus, step, efficiency) in enumerate(answer.predictions):
        milliseconds = [f"{seconds * 1e3:.1f}" for seconds in (step.total, step.waiting, step.exposed)]
        low, high = (100 * end for end in answer.interval(number))
        band = "" if low == high else f"{low:.0f} to {high:.0f} %"
        cells.append((f"{gpus}", milliseconds[0], f"{efficiency:.1%}", band, *milliseconds[1:], step.bottleneck))
    return "\n".join(
        [
            f"PREDICTED, not measured; efficiency against {gpus_text(answer.baseline_gpus)}",
            *aligned(cells, ">>>>>><"),
            "assumed:",
            *(f"  {one}" for one in answer.assumptions),
            "error band, without --calibrate:" if answer.calibrated else "error band:",
            *(f"  {_band(kind, answer.bands[kind])}" for kind in dict.fromkeys(answer.kinds)),
            *(("cannot be told from what was published:", *(f"  {one}" for one in answer.unknown)) if answer.unknown else ()),
        ]
    )


def _band(kind: str, band: ErrorBand) -> str:
    return (
        f"{kind}: of {band.rows} published measurements of {band.systems} systems, half were within {band.median_points:g} "
        f"points and nine of ten within {band.p90_points:g}, each predicted without its own system (docs/projection.md)"
    )


def as_json_object(answer: Answer) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "kind": "prediction",
        "baseline_gpus": answer.baseline_gpus,
        "predictions": [
            {
                "gpus": gpus,
                "step_ms": step.total * 1e3,
                "efficiency": efficiency,
                "efficiency_band": list(answer.interval(number)),
                "error_band": answer.kinds[number],
                "exposed_ms": step.exposed * 1e3,
                "waiting_ms": step.waiting * 1e3,
                "compute_ms": step.compute * 1e3,
                "bottleneck": step.bottleneck,
            }
            for number, (gpus, step, efficiency) in enumerate(answer.predictions)
        ],
        "assumptions": list(answer.assumptions),
        "unknown": list(answer.unknown),
        "error_bands": {kind: asdict(band) for kind, band in answer.bands.items()},
        "error_band_method": METHOD + (", not calibrated" if answer.calibrated else ""),
        "error_band_coverage": COVERAGE,
    }


def gpus_text(count: int) -> str:
    return f"{count} GPU{'s' if count > 1 else ''}"
