"""`lbsgd launch slurm`: the script that is rendered, and what bash makes of it. What Slurm makes of it is in cluster/."""

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbsgd.errors import UsageError
from lbsgd.launch.slurm import BatchJob, render

GOLDEN = Path(__file__).parent / "golden" / "slurm"
ENVIRONMENT = {
    "HOME": "/home/ann",
    "PATH": "/opt/venv/bin:/usr/bin",
    "NCCL_DEBUG": "INFO",
    "OMPI_MCA_btl": "^openib",
    "AWS_SECRET_ACCESS_KEY": "x",
}
TRAIN = ("train", "--framework", "torch", "--data", "/data/image net")
JOBS = {
    "mpirun": BatchJob(program="/opt/venv/bin/lbsgd", command=TRAIN, nodes=32, tasks_per_node=8,
                       directives={"job-name": "resnet 50", "gpus-per-node": "a100:8", "time": "4:00:00", "exclusive": None}),
    "srun": BatchJob(program="lbsgd", command=TRAIN, nodes=2, tasks_per_node=4, cpus_per_task=12, start="srun", interface="ib0",
                     setup=("module load openmpi", "source /opt/venv/bin/activate"), run_dir="/runs/it's one"),
    "one-node-no-requeue": BatchJob(program="lbsgd", command=TRAIN, nodes=1, tasks_per_node=8, requeue=False),
    "bench": BatchJob(program="lbsgd", command=("bench", "--gpus", "8,16"), nodes=2, tasks_per_node=8, start="none"),
}  # fmt: skip
TELLS = """#!{python}
import json, os, pathlib, sys
pathlib.Path(os.environ["TOLD"]).write_text(json.dumps(sys.argv[1:]))
sys.exit(int(os.environ.get("CODE", 0)))
"""
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@pytest.fixture(scope="module")
def lbsgd_that_tells(tmp_path_factory) -> Path:
    """A program that writes its arguments to the file $TOLD, and leaves with the code $CODE."""
    return program(tmp_path_factory.mktemp("bin") / "lbs gd", TELLS.format(python=sys.executable))


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def run(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """What Slurm does with a script: run it in the folder that it was submitted in."""
    environment = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "17", "TOLD": str(folder / "told"), **environment}
    return subprocess.run(["bash", "-s"], input=script, cwd=folder, env=environment, capture_output=True, text=True)


def told(folder: Path) -> list[str]:
    return json.loads((folder / "told").read_text())


@pytest.mark.parametrize("name", JOBS)
def test_the_script_is_the_one_on_file(name):
    assert render(JOBS[name], ENVIRONMENT) == (GOLDEN / f"{name}.sh").read_text()


def test_every_file_is_compared():
    assert {path.stem for path in GOLDEN.iterdir()} == set(JOBS)


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.name)
def test_bash_finds_no_error_in_it(path):
    subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path):
    # 1091: what is sourced is not here; 2054: a comma in an argument is no mistake.
    subprocess.run([Path(sys.executable).with_name("shellcheck"), "--exclude=SC1091,SC2054", path], check=True)


@settings(max_examples=25, deadline=None)
@given(arguments=st.lists(WORDS), run_dir=WORDS.filter(bool))
def test_arguments_and_folders_come_through_whole(lbsgd_that_tells, tmp_path_factory, arguments, run_dir):
    folder = tmp_path_factory.mktemp("job")
    job = BatchJob(program=str(lbsgd_that_tells), command=("train", *arguments), nodes=1, tasks_per_node=1, start="none",
                   run_dir=run_dir)  # fmt: skip
    result = run(render(job, {}), folder)
    assert result.returncode == 0, result.stderr
    assert told(folder) == ["train", *arguments, "--run-dir", run_dir]


def test_rendering_is_pure():
    before = dict(ENVIRONMENT)
    assert render(JOBS["srun"], ENVIRONMENT) == render(JOBS["srun"], ENVIRONMENT)
    assert before == ENVIRONMENT


def test_the_environment_is_handed_on_by_name_where_it_is_on_the_list():
    script = render(JOBS["mpirun"], ENVIRONMENT)
    assert "#SBATCH --export=HOME,NCCL_DEBUG,OMPI_MCA_btl,PATH\n" in script
    assert "INFO" not in script


def test_what_the_environment_says_of_the_network_stays():
    script = render(JOBS["srun"], {"OMPI_MCA_btl_tcp_flags": "send", "NCCL_SOCKET_IFNAME": "eth7"})
    assert "export OMPI_MCA_btl_tcp_if_include=ib0\n" in script
    assert "export OMPI_MCA_btl_tcp_flags" not in script
    assert "export NCCL_SOCKET_IFNAME" not in script


@pytest.mark.parametrize("value", ["a\nb", "a\0b", "\x1b[31m"])
def test_what_no_directive_can_hold_is_refused(value):
    job = BatchJob(program="lbsgd", command=TRAIN, nodes=1, tasks_per_node=1, directives={"job-name": value})
    with pytest.raises(UsageError, match="--job-name '.*' has a line break or control character"):
        render(job, {})


def test_the_folder_of_the_log_is_taken_as_it_is():
    job = BatchJob(program="lbsgd", command=TRAIN, nodes=1, tasks_per_node=1, log_dir='100% of it\'s "runs" #1')
    assert '#SBATCH --output="100%% of it\'s \\"runs\\" #1/slurm-%j.log"\n' in render(job, {})
    with pytest.raises(UsageError, match="Slurm takes no backslash"):
        render(BatchJob(program="lbsgd", command=TRAIN, nodes=1, tasks_per_node=1, log_dir="a\\b"), {})


def test_a_run_with_a_checkpoint_is_gone_on_with(lbsgd_that_tells, hostile_dir):
    job = BatchJob(program=str(lbsgd_that_tells), command=("train",), nodes=1, tasks_per_node=1, start="none",
                   run_dir=str(hostile_dir / "run"))  # fmt: skip
    checkpoint = hostile_dir / "run" / "checkpoints" / "iteration-00000044"
    checkpoint.mkdir(parents=True)
    (hostile_dir / "run" / "run.json").touch()
    (checkpoint / "manifest.json").touch()
    run(render(job, {}), hostile_dir)
    assert told(hostile_dir) == ["train", "--resume", str(hostile_dir / "run")]


def test_a_run_that_was_killed_before_its_first_checkpoint_makes_room(lbsgd_that_tells, tmp_path):
    job = BatchJob(program=str(lbsgd_that_tells), command=("train",), nodes=1, tasks_per_node=1, start="none")
    killed = tmp_path / "runs" / "slurm-17"
    (killed / "checkpoints").mkdir(parents=True)
    (killed / "run.json").touch()
    run(render(job, {}), tmp_path)
    assert told(tmp_path) == ["train", "--run-dir", "runs/slurm-17"]
    [aside] = tmp_path.glob("runs/slurm-17-killed-*Z")
    assert (aside / "run.json").exists()


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5, 6, 93, 130, 143, 144])
def test_an_end_that_would_only_come_again_is_the_end(lbsgd_that_tells, tmp_path, code):
    assert attempts(lbsgd_that_tells, tmp_path, code) == 1


@pytest.mark.parametrize("code", [137, 139, 142])
def test_a_lost_rank_or_a_hang_is_tried_again_so_many_times(lbsgd_that_tells, tmp_path, code):
    assert attempts(lbsgd_that_tells, tmp_path, code) == 4
    assert (tmp_path / "runs" / "slurm-17.lost").read_text().count(f"exit code {code}\n") == 4


def attempts(lbsgd_that_tells: Path, folder: Path, code: int) -> int:
    """How often a job whose command always leaves with `code` is run, when `scontrol requeue` is taken at its word."""
    (folder / "runs").mkdir()
    program(folder / "scontrol", '#!/bin/sh\necho "$@" >requeued\n')
    job = BatchJob(program=str(lbsgd_that_tells), command=("train",), nodes=1, tasks_per_node=1, start="none", restarts=3)
    for attempt in range(1, 10):
        result = run(render(job, {}), folder, CODE=str(code), PATH=f"{folder}:{os.environ['PATH']}")
        assert result.returncode == code, result.stderr
        if not (folder / "requeued").exists():
            return attempt
        assert (folder / "requeued").read_text() == "requeue 17\n"
        (folder / "requeued").unlink()
    return attempt


@pytest.mark.parametrize("start, forwarded", [("none", "TERM"), ("mpirun", "TERM"), ("srun", "USR2")])
def test_the_warning_is_passed_on_in_the_way_that_each_start_understands(start, forwarded):
    job = BatchJob(program="lbsgd", command=TRAIN, nodes=2, tasks_per_node=1, start=start, warning_seconds=300)
    script = render(job, {})
    assert "#SBATCH --signal=B:USR2@300\n" in script
    assert f"trap 'warned=yes; kill -{forwarded} \"$job\"' USR2\n" in script


def launch(lbsgd, *arguments: object):
    return lbsgd("launch", "slurm", *arguments)


def test_print_shows_the_script_and_makes_nothing(lbsgd, tmp_path):
    options = ("--nodes", 32, "--gpus-per-node", "a100:8", "--time", "4:00:00", "--sbatch", "mail-type=END")
    result = lbsgd("launch", "slurm", *options, "--print", "--", *TRAIN, cwd=tmp_path)
    assert result.code == 0, result.stderr
    assert result.stdout.startswith("#!/bin/bash\n#SBATCH --nodes=32\n#SBATCH --ntasks-per-node=8\n")
    for line in ("--gpus-per-node=a100:8", "--time=4:00:00", "--mail-type=END", "--requeue"):
        assert f"#SBATCH {line}\n" in result.stdout
    assert f"launch mpirun --np 256 -- {' '.join(TRAIN[:-1])} '/data/image net')" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_with_a_setup_the_path_is_its_own(lbsgd):
    result = launch(lbsgd, "--tasks-per-node", 2, "--setup", "module load mpi", "--print", "--", *TRAIN)
    assert result.stdout.startswith("#!/bin/bash -l\n")
    assert "\nmodule load mpi\n" in result.stdout
    assert "\ncommand=(lbsgd launch mpirun " in result.stdout


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("--", *TRAIN), "neither --gpus-per-node nor --tasks-per-node is given"),
        (("--gpus-per-node", "many", "--", *TRAIN), "'many' is not NUMBER or TYPE:NUMBER"),
        (("--gpus-per-node", 8, "--sbatch", "nodes=2", "--", *TRAIN), "the script sets --nodes"),
        (("--gpus-per-node", 8, "--sbatch", "mail type", "--", *TRAIN), "is not KEY=VALUE or KEY"),
        (("--gpus-per-node", 8, "--", *TRAIN, "--run-dir", "x"), "--run-dir after --: give it before"),
        (("--gpus-per-node", 8, "--", "lbsgd", *TRAIN), "without the word lbsgd"),
        (("--gpus-per-node", 8, "--", "bench", "--gpus", "8"), "does not run as ranks"),
        (("--gpus-per-node", 8, "--start", "none", "--interface", "ib0", "--", "bench"), "give it after --"),
        (("--gpus-per-node", 8, "--", "train"), "Missing option '--framework'"),
    ],
)
def test_what_cannot_be_submitted_is_refused(lbsgd, arguments, says):
    result = launch(lbsgd, *arguments)
    assert result.code == 2
    assert says in result.stderr


PAGE = (Path(__file__).parents[1] / "docs" / "slurm.md").read_text()


@pytest.mark.parametrize("line", re.findall(r"^lbsgd launch slurm .*", PAGE, re.MULTILINE))
def test_the_commands_of_the_page_are_scripts(lbsgd, line):
    words = [word for word in shlex.split(line.removeprefix("lbsgd launch slurm ")) if word != "--test-only"]
    result = launch(lbsgd, "--print", *words)
    assert (result.code, result.stderr) == (0, "")
    subprocess.run(["bash", "-n"], input=result.stdout, text=True, check=True)


def test_no_sbatch_is_reported_with_what_to_do(lbsgd, tmp_path):
    result = lbsgd("launch", "slurm", "--gpus-per-node", 8, "--", *TRAIN, cwd=tmp_path, env={"PATH": str(tmp_path)})
    assert result.code == 3
    assert "no sbatch on PATH; submit on a login node" in result.stderr
