"""What a run would do: the derivation, its warnings, and the command that shows them."""

import json
import re
import sys

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from lbsgd import cli
from lbsgd.commands.train import train
from lbsgd.errors import DataError, EnvironmentNotReady, UsageError
from lbsgd.policy.plan import make_plan
from lbsgd.policy.recipe import load_recipe
from lbsgd.record.run_record import RunRecord

from .run_samples import WORLD, facts

IMAGENET = 1281167


def plan_of(*overrides, recipe="goyal2017", **arguments):
    return make_plan(load_recipe(recipe, overrides), **({"samples": IMAGENET, "world_size": 256} | arguments))


def run_plan(*arguments):
    return CliRunner().invoke(cli.cli, ["plan", *arguments], catch_exceptions=False)


def run_json(*arguments):
    return json.loads(run_plan(*arguments, "--json").stdout)


def test_the_papers_run():
    plan = plan_of(classes=1000)
    assert (plan.k, plan.n, plan.global_batch) == (256, 32, 8192)
    assert (plan.iterations_per_epoch, plan.total_iterations) == (156, 14040)
    assert plan.samples_left_over == 3215
    assert plan.schedule.peak_lr == 3.2
    assert plan.warnings == ()


def test_the_papers_network_is_100_mb_to_allreduce():
    plan = plan_of(classes=1000)
    assert plan.parameters == 25_557_032
    assert plan.gradient_bytes == 4 * plan.parameters
    assert plan.state_bytes == 3 * plan.gradient_bytes


@pytest.mark.parametrize(("overrides", "classes"), [((), None), (["model=timm:resnet50d"], 1000)])
def test_a_network_that_is_not_described_has_no_size(overrides, classes):
    plan = plan_of(*overrides, classes=classes)
    assert (plan.parameters, plan.gradient_bytes, plan.state_bytes) == (None, None, None)


@given(st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128, 256]))
def test_virtual_workers_follow_the_same_schedule(ranks):
    assert plan_of(world_size=ranks, accumulate=256 // ranks).schedule == plan_of().schedule


@given(st.integers(1, 64), st.integers(1, 8), st.integers(1, 64), st.integers(1, 10**5))
def test_an_epoch_is_whole_iterations_and_the_rest(world_size, accumulate, n, samples):
    def plan():
        return plan_of(f"batch_per_worker={n}", world_size=world_size, accumulate=accumulate, samples=samples)

    if world_size * accumulate * n > samples:
        with pytest.raises(DataError, match=f"larger than the {samples} training images"):
            plan()
    else:
        made = plan()
        assert made.iterations_per_epoch * made.global_batch + made.samples_left_over == samples
        assert 0 <= made.samples_left_over < made.global_batch


@pytest.mark.parametrize(
    ("overrides", "arguments", "said"),
    [
        ((), {"world_size": 512}, "global batch 16384 is above 8192"),
        (["batch_per_worker=64"], {"world_size": 128}, "n = 64 is not the recipe's 32"),
        (["epochs=5", 'decay.at=["2ep"]'], {}, "the peak lr 3.2 is never reached"),
        (["epochs=60"], {}, "2 of 3 decay points lie beyond the run's 60 epochs"),
    ],
)
def test_each_warning_comes_alone(overrides, arguments, said):
    [warning] = plan_of(*overrides, **arguments).warnings
    assert said in warning


@pytest.mark.parametrize("name", ["mine", "demo", "goyal2017"])
def test_a_recipe_is_held_against_what_its_own_file_says(name):
    values = load_recipe("demo").model_dump(mode="json") | {"name": name, "batch_per_worker": 16}
    assert make_plan(load_recipe(values), world_size=1, samples=1000).warnings == ()
    assert make_plan(load_recipe(values, ["batch_per_worker=16"]), world_size=1, samples=1000).warnings == ()
    [warning] = make_plan(load_recipe(values, ["batch_per_worker=32"]), world_size=1, samples=1000).warnings
    assert "n = 32 is not the recipe's 16" in warning


def test_reasons_say_where_the_numbers_come_from():
    rows = {row.name: (row.value, row.reason) for row in plan_of(world_size=2, accumulate=128).reasons}
    assert rows["workers k"] == (256, "ranks 2 x accumulate 128")
    assert rows["global batch kn"] == (8192, "256 workers x 32 images")
    assert rows["peak lr"] == (3.2, "0.1 x 8192 / 256, linear scaling")
    assert rows["warm-up"][0] == "780 it"
    assert rows["lr from epoch 80"] == (0.0032, "iteration 12480, x 0.1")


@pytest.mark.parametrize(
    ("overrides", "name", "value"),
    [
        (["learning_rate.scaling=sqrt"], "peak lr", pytest.approx(0.565685, abs=1e-6)),
        (["learning_rate.scaling=none"], "peak lr", 0.1),
        (["warmup.kind=none"], "warm-up", "none"),
        (["decay.kind=constant"], "decay", "none"),
        (["decay.kind=cosine"], "decay", "cosine"),
    ],
)
def test_reasons_follow_the_recipe(overrides, name, value):
    assert {row.name: row.value for row in plan_of(*overrides).reasons}[name] == value


def test_the_command_prints_the_papers_run():
    lines = run_plan("--recipe", "goyal2017", "--np", "256", "--samples", str(IMAGENET)).stdout.splitlines()
    values = dict(re.split("  +", line)[:2] for line in lines[:-1])
    expected = {
        "workers k": "256",
        "batch per worker n": "32",
        "global batch kn": "8192",
        "epochs": "90",
        "iterations": "14040",
        "peak lr": "3.2",
    }
    assert expected.items() <= values.items()
    assert lines[-1] == "time not known: no matching run recorded"


VALUES = {"bad_samples": "replace", "compile": "off", "log_to": "tensorboard", "run_dir": "runs/x", "profile": "20:30"}
"""A value for each option of train that takes text and is not listed by plan."""


@pytest.mark.parametrize("option", [p for p in train.params if p.name != "resume"], ids=lambda option: option.name)
def test_every_option_of_train_can_be_planned(option):
    listed = {"framework": "torch", "np": 4, "hosts": "a:2,b:2", "recipe": "demo", "model": "resnet20", "precision": "fp32",
              "set_values": "decay.kind=cosine", "interface": "eth0", "runs": "runs"}  # fmt: skip
    if option.name in ("data", "hostfile"):
        return  # read for real in tests of their own
    flag = next(flag for flag in option.opts if flag.startswith("--"))
    value = [] if option.is_flag and option.name != "profile" else [f"{(VALUES | listed).get(option.name, 3)}"]
    done = run_plan("--samples", "1437", flag, *value)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("hosts, ranks", [(("--hosts", "a:8,b:8"), 16), (("--hosts", "a:8,b:8", "--np", "4"), 4), ((), 1)])
def test_as_many_ranks_are_planned_as_would_be_started(hosts, ranks):
    assert run_json("--samples", "1281167", *hosts)["k"] == ranks


def test_a_resumed_run_is_not_planned():
    done = run_plan("--samples", "1437", "--resume", "runs/x")
    assert (done.exit_code, "No such option" in done.output) == (2, True)


def test_json_holds_the_plan_and_the_rate_of_every_iteration():
    report = run_json("--np", "256", "--samples", str(IMAGENET))
    assert (report["k"], report["n"], report["global_batch"], report["epochs"]) == (256, 32, 8192, 90)
    assert len(report["lr"]) == report["total_iterations"] == 14040
    assert (report["lr"][0], report["lr"][780], report["lr"][-1]) == (0.1, 3.2, 0.0032)
    assert report["decay"]["points"][0] == {"iteration": 4680, "epoch": 30.0, "lr": 0.32}
    assert load_recipe(report["recipe"]) == load_recipe("goyal2017")
    assert report["time"] is None


def test_flags_go_before_set_and_set_before_the_preset():
    flags = [
        "--epochs",
        "3",
        "--batch-per-gpu",
        "8",
        "--model",
        "resnet56",
        "--precision",
        "bf16",
        "--seed",
        "7",
    ]
    sets = ("--set", "epochs=4", "--set", "label_smoothing=0.1")
    recipe = run_json("--recipe", "demo", "--samples", "100", *flags, *sets)["recipe"]
    assert (recipe["epochs"], recipe["batch_per_worker"], recipe["model"]) == (3, 8, "resnet56")
    assert (recipe["precision"], recipe["seed"], recipe["label_smoothing"]) == ("bf16", 7, 0.1)


def test_options_are_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("LBSGD_PLAN_SAMPLES", "1000")
    monkeypatch.setenv("LBSGD_PLAN_SEED", "5")
    report = run_json("--recipe", "demo")
    assert (report["samples"], report["recipe"]["seed"]) == (1000, 5)


def test_max_steps_ends_the_run_and_leaves_the_schedule():
    whole = run_json("--np", "256", "--samples", str(IMAGENET))
    cut = run_json("--np", "256", "--samples", str(IMAGENET), "--max-steps", "1000")
    assert (cut["steps"], cut["total_iterations"]) == (1000, 14040)
    assert cut["lr"] == whole["lr"][:1000]


def test_the_data_set_counts_its_samples_and_classes():
    report = run_json("--recipe", "demo", "--data", "synthetic:train=200,val=10,classes=4,size=8")
    assert report["samples"] == 200
    counted = run_json("--recipe", "demo", "--samples", "9999", "--classes", "4")
    assert report["parameters"] == counted["parameters"]


@pytest.mark.parametrize("arguments", [(), ("--samples", "10", "--data", "somewhere")])
def test_either_samples_or_data(arguments):
    with pytest.raises(UsageError, match="either --samples N or --data DIR"):
        run_plan(*arguments)


def test_too_large_a_batch_leaves_with_4_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lbsgd", "plan", "--np", "256", "--samples", "8191"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 4
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: global batch 8192 (256 workers x 32 images) is larger than the 8191")


def record_run(runs, name, *, size=2, speed=100.0, framework="torch", **recipe):
    values = load_recipe("goyal2017").model_dump(mode="json") | recipe
    record = RunRecord.create(runs / name)
    record.begin(0, facts(framework=framework, recipe=values, world=WORLD | {"size": size}))
    record.update(throughput=None if speed is None else {"images_per_second_per_worker": speed})


def plan_time(runs, *arguments):
    size = ("--np", "256", "--samples", str(IMAGENET), "--framework", "torch", "--runs", str(runs))
    return run_json(*size, *arguments)["time"]


def test_a_time_is_a_prediction_from_a_matching_run(tmp_path):
    record_run(tmp_path, "20240101T000000Z-a")
    time = plan_time(tmp_path)
    assert time["run"] == "20240101T000000Z-a"
    assert time["seconds"] == pytest.approx(14040 * 32 / 100)
    assert plan_time(tmp_path, "--max-steps", "100")["seconds"] == pytest.approx(100 * 32 / 100)


def test_the_prediction_is_labelled_with_its_run(tmp_path):
    record_run(tmp_path, "20240101T000000Z-a")
    output = run_plan("--framework", "torch", "--samples", "64000", "--runs", str(tmp_path)).stdout
    assert output.splitlines()[-1] == (
        "time 16 h: a prediction from run 20240101T000000Z-a, where each of 2 workers took 100 images/s; training only"
    )


@pytest.mark.parametrize(
    "difference",
    [
        {"framework": "tensorflow"},
        {"model": "resnet101"},
        {"batch_per_worker": 64},
        {"precision": "bf16"},
        {"speed": None},
    ],
)
def test_another_kind_of_run_predicts_nothing(tmp_path, difference):
    record_run(tmp_path, "20240101T000000Z-a", **difference)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    assert plan_time(tmp_path, "--precision", "fp32") is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_automatic_precision_is_predicted_by_a_run_of_either(tmp_path, precision):
    record_run(tmp_path, "20240101T000000Z-a", precision=precision)
    assert plan_time(tmp_path)["run"] == "20240101T000000Z-a"


def test_the_same_number_of_workers_goes_before_a_later_run(tmp_path):
    record_run(tmp_path, "20240101T000000Z-a", size=256)
    record_run(tmp_path, "20240102T000000Z-b", size=8)
    assert plan_time(tmp_path)["run"] == "20240101T000000Z-a"
    record_run(tmp_path, "20240103T000000Z-c", size=256)
    assert plan_time(tmp_path)["run"] == "20240103T000000Z-c"


@pytest.mark.parametrize("kind", ["steps", "cosine", "constant"])
def test_the_plot_is_a_picture(tmp_path, kind):
    path = tmp_path / "lr.png"
    run_plan("--np", "256", "--samples", str(IMAGENET), "--set", f"decay.kind={kind}", "--plot", str(path))
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["lr.nothing", "nowhere/lr.png"])
def test_a_plot_that_cannot_be_written_is_explained(tmp_path, name):
    with pytest.raises(UsageError, match="cannot draw to"):
        run_plan("--samples", "1000", "--plot", str(tmp_path / name))


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(EnvironmentNotReady, match=r"lbsgd\[report\]"):
        run_plan("--samples", "1000", "--plot", str(tmp_path / "lr.png"))
