"""Puts the results of train_step.py into README.md: python benchmarks/train_step_table.py. `--check` only compares.

Each file of results/train_step/ is the `--json` of one run.
"""

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE / "README.md"
RESULTS = HERE / "results" / "train_step"
BEGIN, END = "<!-- train_step: begin -->\n", "<!-- train_step: end -->\n"
HEAD = """\
| framework | ranks | precision | lbsgd, images/s | peer | images/s | lbsgd / peer | interval |
|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    page = PAGE.read_text()
    new = with_table(page, [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))])
    if "--check" in sys.argv[1:]:
        sys.exit(0 if page == new else "benchmarks/README.md is not what train_step_table.py makes of results/train_step/")
    PAGE.write_text(new)


def with_table(page: str, reports: list[dict[str, Any]]) -> str:
    """The page with the marked block made anew."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return before + BEGIN + table(reports) + END + after


def table(reports: list[dict[str, Any]]) -> str:
    """What was measured on, and a row for each peer of each report."""
    if not reports:
        return "Not measured.\n"
    rows = [row for report in reports for row in rows_of(report)]
    places = sorted({place(report) for report in reports})
    return HEAD + "".join(rows) + "\n" + "".join(f"{text}\n" for text in places)


def rows_of(report: dict[str, Any]) -> list[str]:
    """The rows of one report."""
    settings, rates, precision = report["settings"], report["images_per_second"], report["precision"]
    rows = []
    for peer, ratio in sorted(report["ratios"].items()):
        low, high = ratio["interval"]
        best = " / ".join(dict.fromkeys((precision["lbsgd"], precision[peer])))
        label = "fp32" if settings["precision"] == "fp32" else f"best: {best}"
        left = f"| {settings['framework']} | {settings['np']} | {label} | {rates['lbsgd']:.1f} | {peer} | {rates[peer]:.1f} "
        rows.append(f"{left}| {ratio['median']:.2f} | {low:.2f} to {high:.2f} |\n")
    return rows


def place(report: dict[str, Any]) -> str:
    """When, where and with what."""
    settings, environment, ratio = report["settings"], report["environment"], next(iter(report["ratios"].values()))
    framework, versions, day = settings["framework"], environment["versions"], report["started"][:10]
    return (
        f"{framework} {versions[framework]}, Horovod {versions['horovod']}; {day}, {environment['processor']}, "
        f"a core each; {settings['batch']} images of {settings['size']} pixels; {settings['rounds']} rounds, "
        f"{100 * ratio['interval_confidence']:.0f} % intervals."
    )


if __name__ == "__main__":
    main()
