"""PyTorch's profiler as a backend's Profiler."""

import json
from pathlib import Path
from typing import Any

import horovod.torch as hvd
import torch
from torch.profiler import ProfilerActivity, profile

from lbsgd.backends.contract import Profiler


class TorchProfiler(Profiler):
    """Operations on the CPU, and kernels where there is a GPU."""

    def start(self, folder: Path, timeline: Path | None) -> None:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        self._file = folder / "torch.json"
        self._timeline = timeline
        self._profile = profile(activities=activities)
        self._profile.start()
        if timeline:
            hvd.start_timeline(str(timeline))

    def stop(self) -> list[dict[str, Any]]:
        if self._timeline:
            hvd.stop_timeline()
        self._profile.stop()
        self._profile.export_chrome_trace(str(self._file))
        trace = json.loads(self._file.read_text())
        self._file.unlink()
        base = trace.get("baseTimeNanoseconds", 0) / 1000
        return [event | {"ts": event["ts"] + base} for event in trace["traceEvents"] if "ts" in event]
