"""`lbsgd project` on the command line."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from lbsgd.cli import cli
from lbsgd.errors import UsageError

CLUSTER = ("--gpus-per-node", "8", "--network-gbit", "50", "--transport", "tcp", "--intra-node", "nvlink")
RESNET50 = ("--model", "resnet50", "--step-ms", "250")


def run(*arguments):
    return CliRunner().invoke(cli, ["project", *map(str, arguments)], catch_exceptions=False)


def run_json(*arguments):
    return json.loads(run(*arguments, "--json").stdout)


def efficiencies(*arguments):
    return [prediction["efficiency"] for prediction in run_json(*arguments)["predictions"]]


def test_json_has_what_other_tools_read():
    report = run_json("--gpus", "8,64,256", *CLUSTER, *RESNET50, "--overlap", "full", "--baseline-gpus", 1)
    assert [prediction["gpus"] for prediction in report["predictions"]] == [8, 64, 256]
    for prediction in report["predictions"]:
        assert prediction["efficiency"] == pytest.approx(250 / prediction["step_ms"])
        parts = [prediction[key] for key in ("compute_ms", "waiting_ms", "exposed_ms")]
        assert sum(parts) == pytest.approx(prediction["step_ms"])
        assert prediction["bottleneck"]
    assert report["kind"] == "prediction"
    for prediction in report["predictions"]:
        band = report["error_bands"][prediction["error_band"]]
        assert band["median_points"] < band["p90_points"]
        low, high = prediction["efficiency_band"]
        assert low < prediction["efficiency"] < high
    assert any("50 Gbit/s" in assumption for assumption in report["assumptions"])


def test_text_says_that_it_is_a_prediction_and_how_far_it_may_be_off():
    text = run("--gpus", "8,64", *CLUSTER, *RESNET50).stdout
    assert text.startswith("PREDICTED, not measured; efficiency against 1 GPU\n")
    assert "error band:\n  nccl inside a node, fused: of " in text
    assert "\n  nccl over tcp, fused: of " in text
    rows = [line.split() for line in text.splitlines()[2:4]]
    assert [row[0] for row in rows] == ["8", "64"]


def test_a_model_and_its_size_are_nearly_the_same():
    by_model = efficiencies("--gpus", 64, *CLUSTER, *RESNET50)
    by_size = efficiencies("--gpus", 64, *CLUSTER, "--gradient-mb", 102.2, "--step-ms", 250)
    assert by_size == pytest.approx(by_model, abs=0.03)


def test_half_the_bytes_halve_what_is_sent_after_backward():
    slow = ("--gpus", 64, "--network-gbit", 1, "--overlap", "none", *RESNET50)
    fp32, fp16 = (run_json(*slow, "--dtype", dtype)["predictions"][0]["exposed_ms"] for dtype in ("fp32", "fp16"))
    assert fp16 == pytest.approx(fp32 / 2, rel=0.03)


def test_no_fusion_pays_a_latency_for_each_gradient():
    many = ("--gpus", 64, "--network-gbit", 100, "--transport", "rdma", "--overlap", "none", *RESNET50)
    assert efficiencies(*many, "--fusion-mb", 0) < efficiencies(*many)


def test_gradients_that_come_late_are_hidden_less_than_those_that_come_early():
    job = ("--gpus", 64, "--network-gbit", 10, "--gradient-mb", 440, "--step-ms", 800)
    late, typical, early = (efficiencies(*job, *share) for share in (("--last-share", 0.5), (), ("--first-share", 0.5)))
    assert late < typical < early


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        (
            ("--gpus", "64", "--allreduce", "mpi", "--network-gbit", "50"),
            "how 8 ranks share a host's memory: published MPI sums",
        ),
        (("--gpus", "64", "--allreduce", "gloo", "--network-gbit", "50"), "gloo over tcp, fused: too few published systems"),
        (("--gpus", "1024", "--network-gbit", "100", "--transport", "rdma"), "more than 352 GPUs: none were published"),
        (("--gpus", "64", "--network-gbit", "1"), "a network of 1 Gbit/s: 10 to 1600 were published"),
    ],
)
def test_what_no_published_measurement_tells_is_said(cluster, said):
    assert any(one.startswith(said) for one in run_json(*cluster, *RESNET50)["unknown"])
    text = run(*cluster, *RESNET50).stdout
    assert said in text.split("cannot be told from what was published:")[1]


def test_what_was_published_enough_has_nothing_unknown():
    assert run_json("--gpus", "8,64", *CLUSTER, *RESNET50)["unknown"] == []
    assert "cannot be told" not in run("--gpus", "8,64", *CLUSTER, *RESNET50).stdout


def test_calibration_replaces_the_description(tmp_path):
    file = tmp_path / "eight.json"
    rows = [{"ranks": 8, "bytes": size, "seconds": 1e-4 + size / 1e9} for size in (10**4, 10**6, 10**8)]
    file.write_text(json.dumps({"schema": 1, "rows": rows}))
    calibrated = ("--gpus", 8, "--calibrate", file, "--gradient-mb", 100, "--step-ms", 1000, "--overlap", "none")
    assert "error band, without --calibrate:" in run(*calibrated).stdout
    report = run_json(*calibrated)
    assert report["error_band_method"].endswith(", not calibrated")
    # Two messages, each half a cycle behind what was ready before it at most.
    assert report["predictions"][0]["exposed_ms"] == pytest.approx(100 + 2 * 0.1, abs=2.6)
    assert report["predictions"][0]["bottleneck"] == "allreduce as measured"
    assert "as measured on 8 ranks" in report["assumptions"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (RESNET50[:2], "Missing option '--gpus'"),
        (("--gpus", "8", "--model", "resnet50"), "Missing option '--step-ms'"),
        (("--gpus", "8,x", *RESNET50), "'8,x' is not a list of numbers"),
        (("--gpus", "0", *RESNET50), "'0' is not a list of numbers"),
        (("--gpus", "8", "--model", "resnet50", "--step-ms", "nan"), "not a finite number"),
        (("--gpus", "8", "--model", "resnet50", "--step-ms", "0"), "0.0 is not in the range"),
        (("--gpus", "8", *RESNET50, "--transport", "udp"), "'udp' is not one of"),
    ],
)
def test_wrong_options_leave_with_2(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gpus", "64", *RESNET50), "64 GPUs at 8 per node need a network"),
        (("--gpus", "8", "--step-ms", "250"), "either --model NAME or --gradient-mb MB"),
        (("--gpus", "8", *RESNET50, "--gradient-mb", "102"), "either --model NAME or --gradient-mb MB"),
        (("--gpus", "8", *RESNET50, "--last-share", "0.1"), "go with --gradient-mb"),
        (
            ("--gpus", "8", "--gradient-mb", "9", "--step-ms", "9", "--first-share", "0.6", "--last-share", "0.6"),
            "more than the whole",
        ),
        (("--gpus", "8", "--model", "vgg16", "--step-ms", "250"), "resnet50, .*give --gradient-mb for others"),
    ],
)
def test_what_does_not_fit_together_is_a_usage_error(arguments, message):
    with pytest.raises(UsageError, match=message):
        run(*arguments)


def test_neither_help_nor_a_prediction_loads_anything_heavy():
    command = ["--gpus", "256", *CLUSTER, *RESNET50, "--json"]
    code = (
        "import sys; from lbsgd.commands.project import project; "
        f"project({command!r}, standalone_mode=False); "
        "assert not {'numpy', 'torch', 'tensorflow', 'horovod', 'scipy', 'rich'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
