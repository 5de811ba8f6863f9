"""The command line as a whole: its surface is frozen here, and a change to it is a change to this file."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from lbsgd import __version__
from lbsgd.cli import COMMANDS, cli
from lbsgd.commands.options import FRAMEWORK

RECIPE = {"--recipe", "--model", "--batch-per-gpu", "--epochs", "--precision", "--seed", "--set"}
READING = {"--data-threads", "--read-timeout", "--bad-samples"}
RUN = {"--accumulate", "--max-steps"}
RANKS = {"--np", "-np", "--hosts", "-H", "--hostfile", "--interface", "--oversubscribe"}
FLAGS = {
    "": {"--version"},
    "train": {"--framework", "--data", "--run-dir", "--runs", "--resume", "--keep-checkpoints", "--efficiency-every",
              "--baseline", "--accept-other-data",
              "--log-to", "--channels-last", "--no-channels-last", "--compile", "--deterministic",
              "--profile"} | RANKS | RECIPE | RUN | READING,
    "eval": {"--runs", "--data", "--framework", "--batch-per-gpu", "--json"} | RANKS | READING,
    "plan": {"--framework", "--data", "--samples", "--classes", "--runs", "--plot", "--json"} | RANKS | RECIPE | RUN,
    "project": {"--gpus", "--step-ms", "--model", "--gradient-mb", "--dtype", "--baseline-gpus", "--gpus-per-node",
                "--network-gbit", "--transport", "--intra-node", "--allreduce", "--overlap", "--fusion-mb", "--cycle-ms",
                "--calibrate", "--json", "--first-share", "--last-share"},
    "report": {"--runs", "--output", "-o", "--projection", "--open"},
    "runs": set(),
    "runs list": {"--runs", "--json"},
    "runs show": {"--runs", "--json"},
    "runs compare": {"--runs", "--json"},
    "bench": {"--gpus", "--framework", "--data", "--repeats", "--steps", "--warm-up", "--baseline", "--hosts", "-H",
              "--hostfile", "--interface", "--oversubscribe", "--require-efficiency", "--new", "--runs", "--json"} | RECIPE,
    "bench allreduce": {"--begin", "-b", "--end", "-e", "--step-bytes", "-i", "--factor", "-f", "--iterations", "-n",
                        "--warm-up", "-w", "--check", "-c", "--datatype", "-d", "--through", "--framework",
                        "--json"} | RANKS,
    "bench rank": {"--framework", "--output"},
    "bench input": {"--data", "--recipe", "--threads", "--batch", "--seconds", "--feed", "--json"},
    "launch": set(),
    "launch horovodrun": {"-n", "--mpi-args", "--output-filename", "--print"} | RANKS,
    "launch mpirun": {"-n", "--cores-per-rank", "--mpi", "--mpi-args", "--tag-output", "--print"} | RANKS,
    "launch slurm": {"--account", "--constraint", "--cpus-per-task", "--exclusive", "--gpus-per-node", "--interface",
                     "--job-name", "--json", "--mem", "--no-requeue", "--nodes", "--output", "--partition", "--print",
                     "--qos", "--requeue", "--restarts", "--run-dir", "--sbatch", "--setup", "--start", "--tasks-per-node",
                     "--test-only", "--time", "--warn", "-A", "-C", "-J", "-N", "-p"},
    "launch kubernetes": {"--cpus-per-worker", "--gpus-per-worker", "--grace", "--image", "--interface",
                          "--memory-per-worker", "--name", "--namespace", "--node-selector", "--print", "--restarts",
                          "--run-dir", "--shm", "--slots-per-worker", "--ssh-dir", "--starts-itself", "--user", "--volume",
                          "--workers", "-n"},
    "doctor": {"--data", "--framework", "--hostfile", "--hosts", "--interface", "--json", "--keep-checkpoints", "--np",
               "--oversubscribe", "--recipe", "--runs", "--timeout", "-H", "-np"},
    "doctor facts": {"--data", "--folder", "--mark", "--mpirun", "--peer", "--runs"},
    "doctor rank": {"--framework"},
    "recipe": set(),
    "recipe list": {"--json"},
    "recipe show": {"--json", "--resolved"},
    "recipe diff": {"--json"},
    "recipe new": {"--extends"},
    "study": {"--check", "--data", "--jobs", "--page", "--part", "--results", "-j"},
    "data": set(),
    "data demo": {"--json", "--kind"},
    "data generate": {"--train", "--val", "--classes", "--seed", "--json"},
    "data index": {"--force", "--json"},
    "data info": {"--json"},
    "data pack": {"--format", "--shard-mb", "--json"},
    "data verify": {"--threads", "--json"},
    "horovod": set(),
    "horovod build": {"--framework", "--operations", "--sdist", "--no-index", "--cache", "--force", "--jobs", "--verify",
                      "--no-verify"},
    "horovod check": {"--framework", "--json"},
}  # fmt: skip


def walk(command: click.Command, parent: click.Context | None = None, name: str = "lbsgd") -> Iterator[click.Context]:
    context = click.Context(command, parent=parent, info_name=name, **command.context_settings)
    yield context
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            yield from walk(command.get_command(context, inner), context, inner)


CONTEXTS = {context.command_path.removeprefix("lbsgd").strip(): context for context in walk(cli)}


def options(context: click.Context) -> list[click.Option]:
    return [param for param in context.command.params if isinstance(param, click.Option) and not param.hidden]


def test_the_commands_and_their_flags_are_these():
    found = {path: {flag for o in options(c) for flag in (*o.opts, *o.secondary_opts)} for path, c in CONTEXTS.items()}
    assert found == FLAGS


@pytest.mark.parametrize("path", CONTEXTS)
def test_every_command_and_option_has_help(path):
    assert CONTEXTS[path].command.help
    assert [option.name for option in options(CONTEXTS[path]) if not option.help] == []


FOREIGN = r"\b(go(es|ing|ne)? on with|so many|be one|such as are|is none|(an?|one) (second|worker|slot|core|line) a|told)\b"
"""What a native writer would not say in a help text: rates with "a", and words that are translated."""


@pytest.mark.parametrize("path", CONTEXTS)
def test_help_is_in_sentences_of_plain_english(path):
    texts = {option.name: option.help for option in options(CONTEXTS[path])} | {"": CONTEXTS[path].command.help}
    for name, text in texts.items():
        assert re.match(r"[A-Z0-9[]", text), (name, text)
        assert name == "" or re.search(r"[.\]]$", text), (name, text)
        assert not re.search(FOREIGN, text), (name, text)


@pytest.mark.parametrize("path", CONTEXTS)
def test_help_runs(path):
    for flag in ("--help", "-h"):
        assert cli.main([*path.split(), flag], prog_name="lbsgd", standalone_mode=False) == 0


@pytest.mark.parametrize("path", [path for path in CONTEXTS if path])
def test_every_option_reads_the_environment(path, monkeypatch):
    for option in options(CONTEXTS[path]):
        flag = next(flag for flag in option.opts if flag.startswith("--"))
        variable = "_".join(["LBSGD", *path.split(), *flag[2:].split("-")]).upper()
        monkeypatch.setenv(variable, "given")
        assert option.resolve_envvar_value(CONTEXTS[path]) == "given", variable


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name):
    first_paragraph = CONTEXTS[name].command.help.split("\n\n")[0]
    assert COMMANDS[name][1] == " ".join(first_paragraph.split())


def test_a_flag_goes_before_the_environment_before_the_preset(lbsgd):
    def seed(*flags, **env):
        plan = lbsgd("plan", "--recipe", "demo", "--samples", 1000, "--json", *flags, env=env)
        assert plan.code == 0, plan.stderr
        return json.loads(plan.stdout)["recipe"]["seed"]

    assert seed() == 0
    assert seed(LBSGD_PLAN_SEED="7") == 7
    assert seed("--seed", 8, LBSGD_PLAN_SEED="7") == 8
    assert seed(LBSGD_PLAN_SET="seed=5 epochs=3") == 5


def test_train_reads_its_own_variables(monkeypatch):
    monkeypatch.setenv("LBSGD_TRAIN_SEED", "7")
    monkeypatch.setenv("LBSGD_TRAIN_FRAMEWORK", "torch")
    train = CONTEXTS["train"].command
    assert train.make_context("train", [], parent=CONTEXTS[""]).params["seed"] == 7
    assert train.make_context("train", ["--seed", "8"], parent=CONTEXTS[""]).params["seed"] == 8


@pytest.mark.parametrize(
    "arguments, hint",
    [
        (["trian"], "no command 'trian'; did you mean 'train'?"),
        (["zzz"], "no command 'zzz'; there are: train, eval, plan, recipe,"),
        (["plan", "--sample", "3"], "--samples"),
        (["train"], "Missing option '--framework'"),
        (["plan", "--samples", "1000", "--recipe", "dmo"], "did you mean 'demo'?"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2_with_a_hint(lbsgd, arguments, hint):
    result = lbsgd(*arguments)
    assert result.code == 2
    assert hint in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_version(lbsgd):
    assert lbsgd("--version").stdout.split() == ["lbsgd,", "version", __version__]


def test_json_goes_to_standard_output_alone(lbsgd, tmp_path):
    for arguments in (["runs", "list"], ["plan", "--samples", "1000"]):
        json.loads(lbsgd(*arguments, "--json", cwd=tmp_path).stdout)


@pytest.mark.parametrize("path", CONTEXTS)
def test_help_loads_nothing_heavy(path):
    code = (
        "import sys; from lbsgd.cli import cli; cli.main([*sys.argv[1:], '--help'], standalone_mode=False);"
        "heavy = {'torch', 'tensorflow', 'horovod', 'mpi4py', 'numpy', 'pydantic', 'PIL', 'cv2', 'rich'};"
        "sys.exit(f'loaded {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *path.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_left_is_no_crash(start, finish):
    reading, writing = os.pipe()
    os.close(reading)
    process = start("runs", "list", "--json", stdout=writing)
    os.close(writing)
    assert finish(process).stderr == ""


def test_ctrl_c_is_exit_code_130(start, finish, tmp_path):
    recipe = tmp_path / "recipe.toml"
    os.mkfifo(recipe)
    process = start("plan", "--samples", 1000, "--recipe", recipe)
    with recipe.open("w"):  # as soon as the command reads; it goes on waiting for content
        process.send_signal(signal.SIGINT)
        result = finish(process)
    assert (result.code, result.stderr.split()) == (130, ["Interrupted."])


@pytest.mark.parametrize("name", ["torch", "Torch", "pytorch", "PyTorch"])
def test_a_framework_is_known_by_what_people_call_it(name):
    assert FRAMEWORK.convert(name, None, None) == "torch"
    assert FRAMEWORK.convert("TF", None, None) == FRAMEWORK.convert("TensorFlow", None, None) == "tensorflow"


@pytest.mark.parametrize("command", [("train",), ("bench", "--gpus", "1")])
@pytest.mark.parametrize(
    ("framework", "model", "its"),
    [
        ("torch", "keras:MobileNet", "tensorflow"),
        ("tensorflow", "timm:resnet18d", "torch"),
        ("tf", "timm:resnet18", "torch"),
        ("torch", "reference:softmax", "reference"),
    ],
)
def test_a_model_of_another_framework_is_refused_before_anything_is_loaded(lbsgd, tmp_path, command, framework, model, its):
    result = lbsgd(*command, "--framework", framework, "--model", model, "--recipe", "demo", cwd=tmp_path)
    assert result.code == 2
    assert f"model {model!r} is for --framework {its}, not " in result.errors[-1]
    assert list(tmp_path.iterdir()) == []
