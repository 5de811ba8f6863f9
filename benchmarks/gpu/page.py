"""Makes README.md of what check.py found: python benchmarks/gpu/page.py. `--check` only compares.

Every number in the page comes from a file in results/.
"""

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE / "README.md"

ABOUT = """\
# lbsgd on a GPU

This page is made by `page.py` from the files in `results/`; a test compares them.

    make gpu-kit
    python3 benchmarks/gpu/check.py --kit build/gpu-kit --out benchmarks/gpu/results --minutes 9
    python3 benchmarks/gpu/page.py

The kit (`kit.py`) is what a machine without a network lacks: lbsgd's wheel, Horovod's source as released, Open MPI, and what
they require beyond what `machine.toml` says is there. `make gpu-kit PYTHON_TAG=cp311` makes it for another Python. The check
needs nothing but the kit, this folder, and a Python with torch. It makes an environment of its own and leaves that Python as
it is. `make gpu-rehearsal` runs the same programs on small networks where there is no GPU, in an environment that has only what
that machine has; what needs a GPU is then skipped by name.

| part | what it does | what must hold |
|---|---|---|
| build | builds Horovod offline with CUDA and NCCL | within 3 minutes on 16 cores; two ranks reduce exactly |
| allreduce | one rank over NCCL; two ranks on the one GPU, through host memory if NCCL refuses | exact sums |
| parity | 20 iterations of resnet20 on the digits | losses of GPU = CPU, compiled = not, 4 virtual workers = 4 ranks \
to 1e-3 (fp32, no TF32); resumed bitwise; bf16, fp16 within 2 % |
| step | ResNet-50, 224 px, 256 and 512 images: lbsgd and a plain PyTorch loop take turns | ratio >= 1.00 |
| input | a run on JPEG files beside one on synthetic images | ratio >= 0.95 |
| commands | `doctor`, `bench input --feed`, `train --recipe demo`, `eval` as typed | they work; the digits are learnt |
"""

UNMEASURED = """\
## Results

**None: no GPU has run this yet.** So nothing in the table above is known to hold, and nothing is claimed:

- Horovod's build with NCCL was compiled and linked for a CUDA build of torch on a machine without a GPU; no tensor on a GPU was
  reduced.
- Whether losses on a GPU equal those on a CPU, with virtual workers, after a resume, in bf16 and in fp16.
- Whether the step is as fast as a plain PyTorch loop; what torch.compile in parts, as a whole, or with CUDA graphs gains; how
  much memory it takes; which share of the card's arithmetic it reaches.
- Whether 16 cores feed a GPU with JPEG files.
- TensorFlow on a GPU; more than one GPU; NCCL between GPUs; `--profile` on a GPU.
"""


def main() -> None:
    text = render(read_results(HERE / "results"))
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.exists() and PAGE.read_text() == text else f"{PAGE.name} is not what page.py makes of results/")
    PAGE.write_text(text)


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The results of real GPUs, in the order of their file names."""
    found = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    return [result for result in found if not result["rehearsal"] and result["device"] == "cuda"]


def render(results: list[dict[str, Any]]) -> str:
    """The page."""
    sections = [section(result) for result in results] or [UNMEASURED]
    return "\n".join([ABOUT, *sections])


def section(result: dict[str, Any]) -> str:
    """One card's results."""
    machine, parts = result["machine"], result["parts"]
    lines = [
        f"## {machine['gpu']}",
        "",
        f"{result['started']}, driver {machine['driver']}, {machine['cores']} cores of {machine['processor']}, Python "
        f"{machine['python']}, lbsgd at {result['kit']['git_commit']}.",
        "",
        "| part | outcome | seconds |",
        "|---|---|---|",
        *(f"| {name} | {part['status']} | {part['seconds']:.0f} |" for name, part in parts.items()),
        "",
        *check_rows(parts),
        *step_rows(parts.get("step", {})),
        *input_rows(parts.get("input", {})),
    ]
    return "\n".join(lines) + "\n"


def check_rows(parts: dict[str, Any]) -> list[str]:
    """A row for each check and for each thing that was skipped."""
    rows = ["| part | check | outcome | measured | target |", "|---|---|---|---|---|"]
    for name, part in parts.items():
        for check, found in part.get("checks", {}).items():
            value = found.get("value", found.get("largest_relative_difference"))
            outcome = "holds" if found["passed"] else "**missed**"
            rows.append(f"| {name} | {check} | {outcome} | {number(value)} | {number(found.get('target'))} |")
        rows += [f"| {name} | {what} | skipped: {why} | | |" for what, why in part.get("skipped", {}).items()]
    return [*rows, ""]


def step_rows(part: dict[str, Any]) -> list[str]:
    """The contestants of each shape."""
    if "matmul_tflops" not in part:
        return []
    rows = [f"A product of two bf16 matrices of 8192 x 8192 runs at {part['matmul_tflops']:.0f} TFLOP/s.", ""]
    rows += [
        "| shape | contestant | images/s | of the product's rate | GB | over plain, interval |",
        "|---|---|---|---|---|---|",
    ]
    for shape, found in part.items():
        if not isinstance(found, dict) or "contestants" not in found:
            continue
        for name, one in found["contestants"].items():
            ratio = found["over_plain"].get(name)
            text = f"{ratio['median']:.3f}, {ratio['interval'][0]:.3f} to {ratio['interval'][1]:.3f}" if ratio else ""
            share = f"{100 * one['share_of_matmul_rate']:.0f} %"
            rows.append(
                f"| {shape} | {name} | {one['images_per_second']:,.0f} | {share} | {one['peak_gigabytes']:.1f} | {text} |"
            )
    return [*rows, ""]


def input_rows(part: dict[str, Any]) -> list[str]:
    """Images per second and where a step's time goes."""
    if "photos" not in part:
        return []
    rows = ["| images | images/s | waiting for data | computing |", "|---|---|---|---|"]
    for name in ("synthetic", "photos"):
        split, speed = part[name]["time_split"], part[name]["throughput"]["images_per_second"]
        rows.append(f"| {name} | {speed:,.0f} | {100 * split['data']:.1f} % | {100 * split['compute']:.1f} % |")
    return [*rows, ""]


def number(value: object) -> str:
    """A figure of three digits; nothing where there is none."""
    return f"{value:.3g}" if isinstance(value, int | float) else ""


if __name__ == "__main__":
    main()
