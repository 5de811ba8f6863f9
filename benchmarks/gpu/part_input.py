"""Training on JPEG files beside training on images that cost nothing: is the GPU fed, and if not, where is the wait?"""

import json

from part import NO_GPU, Part, record_of, run_lbsgd, train


def run(part: Part) -> None:
    """Draw photographs, measure the loader by itself, then whole runs on them and on synthetic images."""
    images, batch, steps = (48, 4, 10) if part.rehearse else (6000, 256, 60)
    run_lbsgd(part, "data", "generate", "photos", "--train", images, "--val", 8, "--classes", 4)
    loader = run_lbsgd(part, "bench", "input", "--data", "photos", "--batch", batch, "--seconds", 1, "--json")
    part.record(loader=json.loads(loader.stdout))
    model = ("--model", "resnet18", "--set", "images.size=64") if part.rehearse else ("--model", "resnet50")
    size = 64 if part.rehearse else 224
    common = (*model, "--batch-per-gpu", batch, "--max-steps", steps)
    synthetic = f"synthetic:train={images},val=8,classes=4,size={size}"
    rates = {}
    for name, data in (("synthetic", synthetic), ("photos", "photos")):
        record = record_of(train(part, f"input-{name}", "--data", data, *common))
        rates[name] = record["throughput"]["images_per_second"]
        part.record(**{name: {"throughput": record["throughput"], "time_split": record["time_split"]}})
    if part.on_gpu:
        part.target("photos over synthetic images", rates["photos"] / rates["synthetic"], 0.95)
    else:
        part.record(photos_over_synthetic=rates["photos"] / rates["synthetic"])
        part.skip("photos over synthetic images", NO_GPU)
