"""The picture of a study: images per second beside the ideal, and efficiency with its interval."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lbsgd.measuring.figures import precision

Size = dict[str, Any]

LOOKS = {"torch": {"color": "#c4501b", "marker": "o"}, "tensorflow": {"color": "#1b6ac4", "marker": "s"}}
GREY = "#666666"
ABOVE, BELOW = 1, -1
FAR = 8
"""From this many times the smallest size on, images per second are drawn on logarithmic scales."""
MOST_VALUES = 6
"""Points a line that have their value beside them; more would cover each other."""


def plot(study: dict[str, Any], file: Path) -> None:
    """Draw the finished sizes into `file`, whose suffix names the format. Needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    settings = study["settings"]
    figure, (speed, share) = pyplot.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    drawn = [sizes for sizes in (_done(study, framework) for framework in settings["frameworks"]) if sizes]
    fastest_first = sorted(drawn, key=lambda sizes: -sizes[-1]["images_per_second_per_worker"])
    for side, sizes in zip((ABOVE, BELOW), fastest_first, strict=False):
        _draw_speed(speed, sizes, side)
        _draw_efficiency(share, [size for size in sizes if size["efficiency"] is not None], side)
    _speed_axes(speed, settings, any_drawn=bool(drawn))
    _efficiency_axes(share, settings)
    figure.suptitle(_title(study), x=0.01, ha="left", fontweight="bold")
    figure.supxlabel(_caption(study), x=0.01, ha="left", fontsize="small", color=GREY)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


def _done(study: dict[str, Any], framework: str) -> list[Size]:
    found = [size for size in study["sizes"] if size["framework"] == framework and size["status"] == "done"]
    return sorted(found, key=lambda size: size["workers"])


def _draw_speed(axes, sizes: list[Size], side: int) -> None:
    workers = [size["workers"] for size in sizes]
    rates = [size["images_per_second"] for size in sizes]
    reference = next((size for size in sizes if size["workers"] == size["baseline_workers"]), sizes[0])
    look = LOOKS[sizes[0]["framework"]]
    ideal = [reference["images_per_second_per_worker"] * count for count in workers]
    axes.plot(workers, ideal, ":", color=look["color"], linewidth=1.2)
    axes.plot(workers, rates, **look, label=sizes[0]["framework"])
    away_from_a_rising_line = {"ha": "right" if side == ABOVE else "left", "xytext": (-6 * side, 8 * side)}
    _write_values(axes, workers, rates, [_number(rate) for rate in rates], look, **away_from_a_rising_line)


def _draw_efficiency(axes, sizes: list[Size], side: int) -> None:
    if not sizes:
        return
    workers = [size["workers"] for size in sizes]
    values = [100 * size["efficiency"] for size in sizes]
    ends = [[100 * end for end in size["efficiency_interval"]] for size in sizes]
    spread = [[max(0.0, v - low) for v, (low, _) in zip(values, ends, strict=True)],
              [max(0.0, high - v) for v, (_, high) in zip(values, ends, strict=True)]]  # fmt: skip
    look = LOOKS[sizes[0]["framework"]]
    axes.errorbar(workers, values, yerr=spread, **look, capsize=4)
    words = ["" if size["workers"] == size["baseline_workers"] else f"{100 * size['efficiency']:.0f} %" for size in sizes]
    outside = [(high if side == ABOVE else low) for low, high in ends]
    _write_values(axes, workers, outside, words, look, ha="center", xytext=(0, 9 * side))


def _write_values(
    axes, workers: Sequence[int], heights: Sequence[float], words: Sequence[str], look: dict, **place: Any
) -> None:
    if len(workers) > MOST_VALUES:
        return
    behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
    for x, y, word in zip(workers, heights, words, strict=True):
        axes.annotate(word, (x, y), textcoords="offset points", va="center", fontsize="small", color=look["color"],
                      bbox=behind, **place)  # fmt: skip


def _speed_axes(axes, settings: dict[str, Any], any_drawn: bool) -> None:
    """Both scales start at nothing, so that the ideal is the diagonal, or are logarithmic where the sizes lie far apart."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    counts = sorted(settings["gpus"])
    logarithmic = counts[-1] > FAR * counts[0]
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.margins(y=0.1)
    else:
        axes.margins(y=0.1)
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    _worker_scale(axes, counts, logarithmic)
    axes.set_title("images per second, all workers", loc="left")
    if any_drawn:
        axes.plot([], [], ":", color=GREY, label="ideal")
        axes.legend(frameon=False, loc="upper left" if len(counts) > 1 else "best")


def _efficiency_axes(axes, settings: dict[str, Any]) -> None:
    _worker_scale(axes, sorted(settings["gpus"]), logarithmic=True)
    axes.axhline(100, color=GREY, linestyle=":", linewidth=1.2, zorder=0)
    low, high = axes.get_ylim()
    axes.set_ylim(50 if low > 60 else 0, max(110, high))
    baseline = settings["baseline"]
    axes.set_title(f"efficiency against {baseline:,} worker{'s' if baseline > 1 else ''}, %", loc="left")


def _worker_scale(axes, counts: list[int], logarithmic: bool) -> None:
    if logarithmic:
        axes.set_xscale("log", base=2)
        axes.set_xlim(counts[0] / 1.6, counts[-1] * 1.6)
    else:
        axes.set_xlim(0, counts[-1] * 1.15)
    named = _far_enough_apart(counts, logarithmic)
    axes.set_xticks(named, [f"{count:,}" for count in named])
    axes.minorticks_off()
    axes.set_xlabel("workers")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _far_enough_apart(counts: list[int], logarithmic: bool) -> list[int]:
    """The largest count, and of the others those whose labels do not touch the next one's."""
    named = [counts[-1]]
    for count in reversed(counts[:-1]):
        if count * 1.4 <= named[-1] if logarithmic else count + counts[-1] / 12 <= named[-1]:
            named.append(count)
    return named[::-1]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _title(study: dict[str, Any]) -> str:
    settings = study["settings"]
    note = " — oversubscribed: NOT a scaling figure" if settings["oversubscribed"] else ""
    return f"{settings['model']}, {settings['batch_per_gpu']} images per worker, {precision(study)}{note}"


def _caption(study: dict[str, Any]) -> str:
    missing = [f"{size['framework']} on {size['workers']:,}" for size in study["sizes"] if size["status"] != "done"]
    without = f" No result: {', '.join(missing)}." if missing else ""
    rounds = study["settings"]["repeats"]
    return f"Median of {rounds} round{'s' if rounds > 1 else ''}; bars: 95 % bootstrap interval.{without}"
