"""One contestant of input_speed.py: a process on cores of its own that makes batches when asked, and says how long it took.

    python input_contestant.py <module> <folder> <batch> <core>,...

The interpreter may lack lbsgd. A line on standard input is a number of batches; each answer is a line of JSON. The module has
`batches(folder, batch, threads)`, an endless iterator; `IMAGE`, the shape and dtype of an image; `VERSIONS` of what it uses.
"""

import importlib
import json
import os
import sys
import time


def main() -> None:
    """Answer until standard input ends."""
    name, folder, batch, cores = sys.argv[1:]
    cores = {int(core) for core in cores.split(",")}
    os.sched_setaffinity(0, cores)  # before a library starts threads
    os.environ.update(CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1", TF_CPP_MIN_LOG_LEVEL="3")
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries may print
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        print(json.dumps({"left_out": str(error)}), file=answers)
        return
    batches = module.batches(folder, int(batch), len(cores))
    print(json.dumps({"versions": module.VERSIONS}), file=answers)
    for line in sys.stdin:
        start, processor_start = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            require_shape(next(batches), (int(batch), *module.IMAGE[0]), module.IMAGE[1])
        seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor_start
        print(json.dumps({"seconds": seconds, "processor_seconds": processor_seconds}), file=answers)


def require_shape(images, shape: tuple[int, ...], dtype: str) -> None:
    """A contestant that makes less than the others would win unfairly."""
    if tuple(images.shape) != shape or not str(images.dtype).endswith(dtype):
        raise ValueError(f"a batch is {images.dtype} {tuple(images.shape)} and should be {dtype} {shape}")


if __name__ == "__main__":
    main()
