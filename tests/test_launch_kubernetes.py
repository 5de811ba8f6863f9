"""`lbsgd launch kubernetes`: the manifest, against the API's fields and as Kubernetes would read its words."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from lbsgd.errors import EnvironmentNotReady
from lbsgd.launch.kubernetes import MpiJob, Volume, apply, render, to_yaml

GOLDEN = Path(__file__).parent / "golden" / "kubernetes"
ENVIRONMENT = {"PATH": "/home/ann/bin", "VIRTUAL_ENV": "/home/ann/venv", "NCCL_DEBUG": "INFO", "HF_TOKEN": "x"}
TRAIN = ("train", "--framework", "torch", "--data", "/data/imagenet")
JOBS = {
    "32-workers-of-8-gpus": MpiJob(
        name="resnet", namespace="team-a", image="registry.example/lbsgd:cuda", command=TRAIN, workers=32, slots_per_worker=8,
        interface="eth0", resources={"cpu": "96", "memory": "800Gi", "nvidia.com/gpu": "8"}, shm="64Gi",
        volumes=(Volume("imagenet", "/data", read_only=True), Volume("runs", "/runs")),
        node_selector={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}, run_dir="/runs/resnet", grace_seconds=300,
    ),
    "bench-as-root": MpiJob(
        name="study", image="lbsgd", command=("bench", "--gpus", "1,2"), workers=2, slots_per_worker=1, starts_itself=True,
        resources={}, node_selector={}, user=0, ssh_dir="/root/.ssh", restarts=0,
    ),
}  # fmt: skip
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("$()\n")).map(str)


class Fields(BaseModel):
    """Exactly these fields: the API server would drop or refuse others."""

    model_config = ConfigDict(extra="forbid", strict=True)


Label = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")]
Quantity = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
FilePath = Annotated[str, StringConstraints(pattern=r"^/[^:]*$")]
Count = Annotated[int, Field(ge=0, lt=2**31)]


class Metadata(Fields):
    name: Label
    namespace: Label | None = None


class Variable(Fields):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    value: str


class Mount(Fields):
    name: Label
    mountPath: FilePath
    readOnly: bool = False


class Exec(Fields):
    command: list[str]


class Handler(Fields):
    exec: Exec


class Lifecycle(Fields):
    preStop: Handler


class Resources(Fields):
    requests: dict[str, Quantity]
    limits: dict[str, Quantity]


class Container(Fields):
    name: Label
    image: str
    command: Annotated[list[str], Field(min_length=1)]
    env: list[Variable] = []
    lifecycle: Lifecycle | None = None
    resources: Resources
    volumeMounts: list[Mount]


class EmptyDir(Fields):
    medium: Literal["", "Memory"]
    sizeLimit: Quantity


class Claim(Fields):
    claimName: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]


class PodVolume(Fields):
    name: Label
    emptyDir: EmptyDir | None = None
    persistentVolumeClaim: Claim | None = None


class SecurityContext(Fields):
    runAsUser: Count
    runAsGroup: Count
    fsGroup: Count


class Pod(Fields):
    terminationGracePeriodSeconds: Count
    securityContext: SecurityContext
    containers: Annotated[list[Container], Field(min_length=1)]
    volumes: list[PodVolume]
    nodeSelector: dict[str, str] = {}


class Template(Fields):
    spec: Pod


class Replicas(Fields):
    replicas: Annotated[int, Field(ge=1)]
    restartPolicy: Literal["Never", "OnFailure"]
    template: Template


class ReplicaSpecs(Fields):
    Launcher: Replicas
    Worker: Replicas


class RunPolicy(Fields):
    cleanPodPolicy: Literal["None", "Running", "All"]
    backoffLimit: Count


class Spec(Fields):
    slotsPerWorker: Count
    mpiImplementation: Literal["OpenMPI", "Intel", "MPICH"]
    launcherCreationPolicy: Literal["AtStartup", "WaitForWorkersReady"]
    sshAuthMountPath: FilePath
    runPolicy: RunPolicy
    mpiReplicaSpecs: ReplicaSpecs


class Manifest(Fields):
    """What we use of an MPIJob and its pods: the operator's types.go and validation.go, the API reference of Pod v1 core."""

    apiVersion: Literal["kubeflow.org/v2beta1"]
    kind: Literal["MPIJob"]
    metadata: Metadata
    spec: Spec


def as_kubernetes_reads(word: str, variables: dict[str, str]) -> str:
    """A word of a container's command: $(NAME) is a variable where there is one, $$ is $ ("Container v1 core", command)."""
    return re.sub(
        r"\$(\$|\(([^)]*)\))",
        lambda found: "$" if found[1] == "$" else variables.get(found[2], found[0]),
        word,
    )


def launcher_of(manifest: dict) -> dict:
    return manifest["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"][0]


def worker_of(manifest: dict) -> dict:
    return manifest["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]


def job(**changes) -> MpiJob:
    given = {
        "name": "a",
        "image": "lbsgd",
        "command": TRAIN,
        "workers": 2,
        "slots_per_worker": 1,
        "resources": {},
        "node_selector": {},
    }
    return MpiJob(**given | changes)


@pytest.mark.parametrize("name", JOBS)
def test_the_manifest_is_the_one_on_file(name):
    assert to_yaml(render(JOBS[name], ENVIRONMENT)) == (GOLDEN / f"{name}.yaml").read_text()


def test_every_file_is_compared():
    assert {path.stem for path in GOLDEN.iterdir()} == set(JOBS)


@pytest.mark.parametrize("name", JOBS)
def test_it_has_the_fields_of_the_api_and_no_others(name):
    manifest = Manifest.model_validate(yaml.safe_load((GOLDEN / f"{name}.yaml").read_text()))
    for replicas in (manifest.spec.mpiReplicaSpecs.Launcher, manifest.spec.mpiReplicaSpecs.Worker):
        pod = replicas.template.spec
        names = [volume.name for volume in pod.volumes]
        assert len(set(names)) == len(names)
        assert {mount.name for mount in pod.containers[0].volumeMounts} == set(names)
    last_pod = f"{manifest.metadata.name}-worker-{manifest.spec.mpiReplicaSpecs.Worker.replicas - 1}"
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,62}", last_pod)  # validation.go: it becomes a host name


@settings(max_examples=50)
@given(arguments=st.lists(WORDS), run_dir=WORDS, value=st.text(st.characters(exclude_categories=["Cs"])))
def test_every_word_comes_through_yaml_and_kubernetes(arguments, run_dir, value):
    manifest = render(job(command=("train", *arguments), run_dir=run_dir), {"LBSGD_X": value})
    assert yaml.safe_load(to_yaml(manifest)) == manifest
    launcher = launcher_of(manifest)
    assert as_kubernetes_reads(launcher["env"][0]["value"], {"X": "no"}) == value
    words = [as_kubernetes_reads(word, {"X": "no"}) for word in launcher["command"]]
    assert words[-len(arguments) - 1 :] == ["train", *arguments]


@pytest.mark.parametrize("word", ["$(HOME)", "$$(HOME)", "$$$(HOME)", "$$", "a$", "$HOME $(", "${x}$$$"])
def test_what_looks_like_a_variable_is_none(word):
    launcher = launcher_of(render(job(command=("train", word)), {}))
    assert as_kubernetes_reads(launcher["command"][-1], {"HOME": "/root"}) == word


def test_paths_and_secrets_of_this_machine_stay_here():
    launcher = launcher_of(render(JOBS["32-workers-of-8-gpus"], ENVIRONMENT))
    assert launcher["env"] == [{"name": "NCCL_DEBUG", "value": "INFO"}]


def test_a_claim_may_be_mounted_twice():
    manifest = render(job(volumes=(Volume("all.of-it", "/data", read_only=True), Volume("all.of-it", "/runs"))), {})
    Manifest.model_validate(manifest)
    pod = manifest["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["shm", "claim-all-of-it"]
    assert [mount["mountPath"] for mount in worker_of(manifest)["volumeMounts"]] == ["/dev/shm", "/data", "/runs"]


@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_the_launcher_begins_a_run_or_goes_on_with_it(hostile_dir, has_checkpoint):
    run = hostile_dir / "run"
    if has_checkpoint:
        (run / "checkpoints" / "iteration-00000044").mkdir(parents=True)
        (run / "checkpoints" / "iteration-00000044" / "manifest.json").touch()
        (run / "run.json").touch()
    tells = hostile_dir / "lbsgd"
    tells.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    tells.chmod(0o755)
    command = launcher_of(render(job(run_dir=str(run), interface="eth0"), {}))["command"]
    words = [as_kubernetes_reads(word, {}) for word in command]
    done = subprocess.run(
        words, env={"PATH": f"{hostile_dir}:{os.environ['PATH']}"}, capture_output=True, text=True, check=True
    )
    how = "--resume" if has_checkpoint else "--run-dir"
    assert json.loads(done.stdout) == ["launch", "mpirun", "--np", "2", "--interface", "eth0", "--", *TRAIN, how, str(run)]


STAYS = """
import pathlib, signal, sys, time
told = []
signal.signal(signal.SIGUSR1, lambda *_: told.append(True))
print("up", flush=True)
while not told: time.sleep(0.05)
time.sleep(1)
pathlib.Path("saved").touch()
"""


def test_a_worker_that_is_to_go_lets_its_ranks_save(tmp_path):
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("a worker's processes need root and unshare")
    (tmp_path / "lbsgd").write_text(f"#!{sys.executable}\n{STAYS}")
    (tmp_path / "lbsgd").chmod(0o755)
    stops = worker_of(render(job(), {}))["lifecycle"]["preStop"]["exec"]["command"]
    script = './lbsgd & until [ -e /proc/$!/comm ] && grep -q lbsgd /proc/$!/comm; do sleep 0.1; done; sleep 1; exec "$@"'
    worker = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", script, "worker", *stops]
    subprocess.run(worker, cwd=tmp_path, check=True, timeout=30)
    assert (tmp_path / "saved").exists()


def kubernetes(lbsgd, *arguments: object, **options):
    return lbsgd("launch", "kubernetes", "--image", "lbsgd", "--workers", 2, *arguments, **options)


def test_print_shows_the_manifest(lbsgd):
    options = ("--gpus-per-worker", 8, "--memory-per-worker", "64Gi", "--volume", "all:/runs", "--node-selector", "zone=a")
    result = kubernetes(lbsgd, *options, "--run-dir", "/runs/a", "--print", "--", *TRAIN)
    assert (result.code, result.stderr) == (0, "")
    manifest = yaml.safe_load(result.stdout)
    Manifest.model_validate(manifest)
    assert manifest["spec"]["slotsPerWorker"] == 8
    assert worker_of(manifest)["resources"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": "8"}
    assert launcher_of(manifest)["command"][4:-5] == ["lbsgd", "launch", "mpirun", "--np", "16", "--"]


def test_a_run_that_no_attempt_could_find_again_is_warned_of(lbsgd):
    result = kubernetes(lbsgd, "--slots-per-worker", 1, "--volume", "all:/run", "--run-dir", "/runs/a", "--print", "--", *TRAIN)
    assert result.code == 0
    assert "warning: /runs/a is on no --volume" in result.stderr


@pytest.mark.parametrize(
    "arguments, says",
    [
        ((), "neither --gpus-per-worker nor --slots-per-worker is given"),
        (("--slots-per-worker", 1, "--name", "Resnet_50"), "'Resnet_50' is not lower-case letters, digits and -"),
        (("--slots-per-worker", 1, "--volume", "runs"), "'runs' is not CLAIM:/FOLDER"),
        (("--slots-per-worker", 1, "--shm", "lots"), "'lots' is not a quantity such as 64Gi"),
        (("--slots-per-worker", 1, "--node-selector", "zone"), "--node-selector 'zone' is not LABEL=VALUE"),
    ],
)
def test_what_cannot_be_a_manifest_is_refused(lbsgd, arguments, says):
    result = kubernetes(lbsgd, *arguments, "--", *TRAIN)
    assert result.code == 2
    assert says in result.stderr


PAGE = (Path(__file__).parents[1] / "docs" / "kubernetes.md").read_text()


@pytest.mark.parametrize("line", re.findall(r"^lbsgd launch kubernetes .*", PAGE, re.MULTILINE))
def test_the_commands_of_the_page_are_manifests(lbsgd, line):
    words = shlex.split(line.removeprefix("lbsgd launch kubernetes "))
    result = lbsgd("launch", "kubernetes", "--print", *words)
    assert (result.code, result.stderr) == (0, "")
    Manifest.model_validate(yaml.safe_load(result.stdout))


def test_no_kubectl_is_reported_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentNotReady, match="no kubectl on PATH; install it, or save the manifest with --print"):
        apply("")
