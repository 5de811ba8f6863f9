"""The table of the step benchmark follows from the result files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
REPORT = {
    "settings": {"framework": "torch", "np": 2, "precision": "best", "batch": 16, "size": 128, "rounds": 11},
    "precision": {"lbsgd": "bf16", "ddp": "fp32"},
    "images_per_second": {"lbsgd": 50.0, "ddp": 40.0},
    "ratios": {"ddp": {"median": 1.25, "interval": [1.2, 1.3], "interval_confidence": 0.97}},
    "started": "2026-11-26T00:00:00Z",
    "environment": {"versions": {"torch": "2", "horovod": "0"}, "processor": "P"},
}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import train_step_table

    return train_step_table


def test_the_readme_has_what_the_committed_results_say():
    done = subprocess.run([sys.executable, BENCHMARKS / "train_step_table.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_peer_has_a_row_with_its_interval(script):
    text = script.table([REPORT])
    assert "| torch | 2 | best: bf16 / fp32 | 50.0 | ddp | 40.0 | 1.25 | 1.20 to 1.30 |\n" in text
    assert "97 % intervals" in text


def test_only_the_marked_block_changes(script):
    page = f"before\n{script.BEGIN}old\n{script.END}after\n"
    new = script.with_table(page, [json.loads(json.dumps(REPORT))])
    assert new.startswith("before\n") and new.endswith("after\n")
    assert "old" not in new
    assert script.with_table(new, [REPORT]) == new
