"""Kubernetes: render an MPIJob (kubeflow.org/v2beta1) that runs an lbsgd command over its workers; apply it.

Kubeflow's mpi-operator starts worker pods, which run ssh servers, then the launcher's pod, which finds them in a host file. A
pod that is to go first lets the ranks save; the launcher is started again and resumes the run, which has to be on a volume
that all pods share.

The fields are those of the operator's pkg/apis/kubeflow/v2beta1/types.go and of the Kubernetes API reference, "Pod v1 core".
"""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lbsgd.errors import EnvironmentNotReady
from lbsgd.launch.exported import NAMES, exported_names
from lbsgd.launch.templating import render_template

SSH_SERVER = ["/usr/sbin/sshd", "-De"]
LAUNCHER_RESOURCES = {"cpu": "1", "memory": "1Gi"}
MPI = "OpenMPI"
"""What the image has."""


@dataclass(frozen=True)
class Volume:
    """A persistent volume claim and where pods see it."""

    claim: str
    mount: str
    read_only: bool = False

    @property
    def name(self) -> str:
        """Its name in a pod, where the operator has volumes too, and dots are not allowed."""
        return f"claim-{self.claim.replace('.', '-')}"


@dataclass(frozen=True, kw_only=True)
class MpiJob:
    """An lbsgd command to run over worker pods.

    command: what follows `lbsgd`. starts_itself: whether it starts its ranks by itself, as bench does. resources: of a worker,
    by Kubernetes' names. shm: size of a pod's shared memory. user: number of the image's user, ssh_dir: where it has its keys.
    run_dir: of a training run; None for other commands. grace_seconds: what ranks have to save their state in. restarts: how
    often the launcher is started again.
    """

    name: str
    image: str
    command: tuple[str, ...]
    workers: int
    slots_per_worker: int
    namespace: str | None = None
    starts_itself: bool = False
    interface: str | None = None
    resources: Mapping[str, str]
    shm: str = "8Gi"
    volumes: tuple[Volume, ...] = ()
    node_selector: Mapping[str, str]
    user: int = 1000
    ssh_dir: str = "/home/lbsgd/.ssh"
    run_dir: str | None = None
    grace_seconds: int = 120
    restarts: int = 3


def render(job: MpiJob, environment: Mapping[str, str]) -> dict[str, Any]:
    """The manifest of `job`. Pure: nothing is run and nothing but the arguments is read.

    environment: the variables at submission; those on the allow-list that name no path of this machine are handed on.
    """
    metadata = {"name": job.name} | ({"namespace": job.namespace} if job.namespace else {})
    return {
        "apiVersion": "kubeflow.org/v2beta1",
        "kind": "MPIJob",
        "metadata": metadata,
        "spec": {
            "slotsPerWorker": job.slots_per_worker,
            "mpiImplementation": MPI,
            "launcherCreationPolicy": "WaitForWorkersReady",
            "sshAuthMountPath": job.ssh_dir,
            "runPolicy": {"cleanPodPolicy": "Running", "backoffLimit": job.restarts},
            "mpiReplicaSpecs": {
                "Launcher": _replicas(1, _pod(job, _launcher(job, environment))),
                "Worker": _replicas(job.workers, _pod(job, _worker(job), job.node_selector)),
            },
        },
    }


def to_yaml(manifest: Mapping[str, Any]) -> str:
    """The manifest as YAML, with scripts as readable blocks."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes texts of several lines as blocks, and what is the same as often as it occurs."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return yaml.dump(manifest, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)


def apply(manifest: str) -> str:
    """Hand the YAML to kubectl and return what it says.

    Raises EnvironmentNotReady when there is no kubectl or it refuses.
    """
    if shutil.which("kubectl") is None:
        raise EnvironmentNotReady("no kubectl on PATH; install it, or save the manifest with --print and apply it elsewhere")
    done = subprocess.run(["kubectl", "apply", "-f", "-"], input=manifest, capture_output=True, text=True)
    if done.returncode != 0:
        raise EnvironmentNotReady(f"kubectl apply failed: {done.stderr.strip()}; --print shows the manifest")
    return done.stdout.strip()


def _replicas(count: int, pod: dict[str, Any]) -> dict[str, Any]:
    # Never: a failed attempt's pod stays, and with it its log.
    return {"replicas": count, "restartPolicy": "Never", "template": {"spec": pod}}


def _pod(job: MpiJob, container: dict[str, Any], node_selector: Mapping[str, str] | None = None) -> dict[str, Any]:
    claims = {volume.name: volume.claim for volume in job.volumes}  # one may be mounted twice
    volumes = [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": job.shm}}]
    volumes += [{"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim in claims.items()]
    mounts = [{"name": "shm", "mountPath": "/dev/shm"}]
    mounts += [_mount(volume) for volume in job.volumes]
    pod = {
        "terminationGracePeriodSeconds": job.grace_seconds,
        "securityContext": {"runAsUser": job.user, "runAsGroup": job.user, "fsGroup": job.user},
        "containers": [container | {"volumeMounts": mounts}],
        "volumes": volumes,
    }
    return pod | ({"nodeSelector": dict(node_selector)} if node_selector else {})


def _mount(volume: Volume) -> dict[str, Any]:
    return {"name": volume.name, "mountPath": volume.mount} | ({"readOnly": True} if volume.read_only else {})


def _launcher(job: MpiJob, environment: Mapping[str, str]) -> dict[str, Any]:
    script = render_template("kubernetes_launcher.sh.j2", run_dir=job.run_dir)
    names = [name for name in exported_names(environment) if name not in NAMES]
    env = [{"name": name, "value": _literal(environment[name])} for name in names]
    return {
        "name": "launcher",
        "image": job.image,
        "command": [_literal(word) for word in ("bash", "-c", script, "launcher", *_command(job))],
        **({"env": env} if env else {}),
        "resources": {"requests": LAUNCHER_RESOURCES, "limits": LAUNCHER_RESOURCES},
    }


def _worker(job: MpiJob) -> dict[str, Any]:
    stops = render_template("kubernetes_worker_stops.sh")
    return {
        "name": "worker",
        "image": job.image,
        "command": SSH_SERVER,
        "lifecycle": {"preStop": {"exec": {"command": ["bash", "-c", stops]}}},
        "resources": {"requests": dict(job.resources), "limits": dict(job.resources)},
    }


def _command(job: MpiJob) -> list[str]:
    if job.starts_itself:
        return ["lbsgd", *job.command]
    interface = ["--interface", job.interface] if job.interface else []
    np = str(job.workers * job.slots_per_worker)
    return ["lbsgd", "launch", "mpirun", "--np", np, *interface, "--", *job.command]


def _literal(text: str) -> str:
    """`text` so that Kubernetes leaves it as it is: it takes $(NAME) for a variable, and $$ for one $."""
    return re.sub(r"\$(?=[$(])", "$$", text)
