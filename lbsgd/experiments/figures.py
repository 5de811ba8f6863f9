"""The figures of a study, drawn by matplotlib: error over the global batch, and error over the epochs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLOURS = ("#1b6ac4", "#c4501b", "#2b8a3e", "#8a2b82", "#7a6a00", "#444444")
MARKERS = "osD^vP"
FORMATS = ("svg", "png")
STYLE: Any = {
    "svg.hashsalt": "lbsgd",  # the same figure, the same bytes
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
}


@dataclass(frozen=True)
class Line:
    """points: (x, y); half_widths: of each y's interval, or None."""

    name: str
    points: Sequence[tuple[float, float]]
    half_widths: Sequence[float | None]


def draw(stem: Path, lines: Sequence[Line], *, x: str, y: str, logarithmic: bool) -> None:
    """Write the figure as stem.svg and stem.png. logarithmic: x by powers of two."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=(7.2, 4.2), layout="constrained")
        for index, one in enumerate(lines):
            _draw_line(axes, one, COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)] if logarithmic else "")
        if logarithmic:
            _powers_of_two(axes, sorted({point[0] for one in lines for point in one.points}))
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_ylim(bottom=0)
        if len(lines) > 1:
            figure.legend(loc="outside lower left", frameon=False, ncols=2, fontsize="small")
        for suffix in FORMATS:
            figure.savefig(stem.with_suffix(f".{suffix}"), dpi=150, metadata={"Date": None} if suffix == "svg" else None)
        pyplot.close(figure)


def _draw_line(axes: Any, line: Line, colour: str, marker: str) -> None:
    xs, ys = zip(*line.points, strict=True)
    axes.plot(xs, ys, color=colour, marker=marker or None, markersize=4, label=line.name, linewidth=1.4)
    known = [(x, y, half) for (x, y), half in zip(line.points, line.half_widths, strict=True) if half is not None]
    if not known:
        return
    if marker:
        axes.errorbar(*zip(*((x, y) for x, y, _ in known), strict=True), yerr=[half for *_, half in known], fmt="none",
                      ecolor=colour, capsize=3, linewidth=1)  # fmt: skip
    else:
        axes.fill_between([x for x, *_ in known], [y - half for _, y, half in known], [y + half for _, y, half in known],
                          color=colour, alpha=0.15, linewidth=0)  # fmt: skip


def _powers_of_two(axes: Any, values: Sequence[float]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(values, [f"{value:,.0f}" for value in values])
    axes.minorticks_off()
