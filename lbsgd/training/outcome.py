"""What a run came to: what is said of its figures at its end. Rank 0 does."""

import os

from lbsgd.measuring.baseline import Baseline, find_baseline
from lbsgd.record.run_content import RunContent, Scaling, TimeSplit
from lbsgd.record.run_record import RunRecord
from lbsgd.record.summary import LEAST_PAIRS

TOO_WIDE = 0.10
"""An interval of more than ten points is too wide to publish the figure."""


def compare(record: RunRecord, named: Baseline | None) -> None:
    """Record the efficiency against a baseline: the one that was named, or the newest `lbsgd bench` of this kind."""
    throughput = record.content["throughput"]
    baseline = named or find_baseline(record.folder.parent, record.content)
    if throughput and baseline and baseline.serves(record.content):
        workers = record.content["world"]["size"]
        record.update(scaling_baseline=baseline.scaling(workers, throughput["images_per_second"]))


def outcome(content: RunContent) -> list[str]:
    """The lines about speed and scaling efficiency that a run ends with."""
    throughput, scaling, baseline = content["throughput"], content["scaling"], content["scaling_baseline"]
    if not throughput:
        return []
    workers = counted(content["world"]["size"])
    rate, per_worker = throughput["images_per_second"], throughput["images_per_second_per_worker"]
    lines = [f"speed: {rate:,.0f} images/s on {workers}, {per_worker:,.0f} per worker"]
    if scaling and scaling["workers"] > 1:
        lines += efficiency_lines(scaling, content["time_split"])
    if (noise := content.get("noise_scale")) and noise["images"] is not None and noise["samples_factor"] is not None:
        batch, factor = content["schedule"]["global_batch"], noise["samples_factor"]
        lines.append(
            f"gradient noise scale: {noise['images']:,.0f} images; a global batch of {batch:,} takes {factor:.3g} times the "
            "images of a tiny one to get as far"
        )
    if baseline and baseline["efficiency"] is not None:
        against = counted(baseline["baseline_workers"])
        lines.append(
            f"against {against} of {baseline['baseline_run']}: {100 * baseline['efficiency']:.1f} % scaling efficiency"
        )
    return lines


def efficiency_lines(scaling: Scaling, split: TimeSplit | None) -> list[str]:
    """The scaling efficiency with its interval, where the rest goes, and whatever keeps it from being trusted."""
    value, interval, pairs = scaling["efficiency"], scaling["interval"], scaling["pairs"]
    if value is None or interval is None or split is None:
        steps = f"{pairs} measured step{'' if pairs == 1 else 's'}"
        return [f"scaling efficiency: not measured; the run had {steps}, {LEAST_PAIRS} are needed"]
    low, high = interval
    parts = f"communication takes {100 * split['communication']:.1f} % of a step, waiting {100 * split['waiting']:.1f} %"
    lines = [f"scaling efficiency {100 * value:.1f} % ± {50 * (high - low):.1f} ({counted(scaling['workers'])}; {parts})"]
    if low > 1:
        lines.append(
            f"warning: workers cannot be faster together than alone, so {100 * low:.1f} to {100 * high:.1f} % does not measure "
            "scaling; something else changed between the steps"
        )
    elif high - low > TOO_WIDE:
        load, cores = os.getloadavg()[0], os.cpu_count()
        lines.append(
            f"warning: {100 * low:.0f} to {100 * high:.0f} % is too wide to publish: {pairs} measured steps, and a load of "
            f"{load:.1f} on the {cores} cores of this host. Measure on an idle machine, for longer"
        )
    return lines


def results(content: RunContent) -> dict[str, float]:
    """The figures of a run by the names that loggers show."""
    final, throughput, scaling = content["final"], content["throughput"], content["scaling"]
    found: dict[str, float | None] = {}
    if final:
        found |= {"top1_error": final["top1_error"]}
    if throughput:
        found |= {"images_per_second": throughput["images_per_second"]}
    if (noise := content.get("noise_scale")) and noise["images"] is not None:
        found |= {"noise_scale": noise["images"]}
    if scaling and scaling["interval"]:
        low, high = scaling["interval"]
        found |= {"efficiency": scaling["efficiency"], "efficiency_low": low, "efficiency_high": high}
    return {name: value for name, value in found.items() if value is not None}


def counted(workers: int) -> str:
    """1 worker, 2 workers."""
    return f"{workers} worker{'s' if workers > 1 else ''}"
