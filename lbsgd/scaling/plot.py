"""The picture of a study: images a second beside the ideal, and efficiency with its interval."""

from pathlib import Path
from typing import Any

COLOURS = {"torch": "#c4501b", "tensorflow": "#1b6ac4"}


def plot(study: dict[str, Any], file: Path) -> None:
    """Draw the finished sizes into `file`, whose suffix names the format. Needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    settings = study["settings"]
    figure, (speed, share) = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for framework in settings["frameworks"]:
        sizes = [size for size in study["sizes"] if size["framework"] == framework and size["status"] == "done"]
        if sizes:
            _draw_speed(speed, sizes, framework)
            _draw_efficiency(share, [size for size in sizes if size["efficiency"] is not None], framework)
    for axes in (speed, share):
        axes.set_xscale("log", base=2)
        axes.set_xticks(settings["gpus"], [str(count) for count in settings["gpus"]])
        axes.minorticks_off()
        axes.set_xlabel("workers")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    speed.set_yscale("log", base=2)
    speed.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:,.4g}"))
    speed.set_title("images/s (dotted: ideal)", loc="left")
    share.axhline(100, color="gray", linestyle=":", linewidth=1)
    share.set_ylim(bottom=0)
    share.set_title(f"efficiency against {settings['baseline']} (%, with 95 % interval)", loc="left")
    speed.legend(frameon=False)
    note = " — oversubscribed: NOT a scaling figure" if settings["oversubscribed"] else ""
    figure.suptitle(f"{settings['model']}, {settings['batch_per_gpu']} images a worker, {settings['precision']}{note}")
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


def _draw_speed(axes, sizes: list[dict[str, Any]], framework: str) -> None:
    workers = [size["workers"] for size in sizes]
    axes.plot(workers, [size["images_per_second"] for size in sizes], "o-", color=COLOURS[framework], label=framework)
    per_worker = sizes[0]["images_per_second_per_worker"]
    axes.plot(workers, [per_worker * count for count in workers], ":", color=COLOURS[framework], linewidth=1)


def _draw_efficiency(axes, sizes: list[dict[str, Any]], framework: str) -> None:
    values = [100 * size["efficiency"] for size in sizes]
    low, high = zip(*(size["efficiency_interval"] for size in sizes), strict=True) if sizes else ((), ())
    spread = [[v - 100 * b for v, b in zip(values, low, strict=True)], [100 * b - v for v, b in zip(values, high, strict=True)]]
    axes.errorbar(
        [size["workers"] for size in sizes],
        values,
        yerr=[[max(0.0, x) for x in side] for side in spread],
        fmt="o-",
        capsize=3,
        color=COLOURS[framework],
    )
