"""Toril as a user has it: images from our Dockerfiles, the chart installed by Helm, a Redis and JobQueues beside it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from support import cluster_images, project_images
from support.cluster import Cluster
from support.waiting import wait_until
from tools import images

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "zettanote"
PEERS = ROOT / "tests" / "peers"
SYSTEM = "toril-system"
REDIS_USER = 65532
NAPS_IMAGE = f"{project_images.REGISTRY}/toril-test/naps:1"


def load_test_images(cluster: Cluster, ours: project_images.Tags) -> None:
    """Make the images that only tests need, on top of ours, and bring them to the node."""
    context = ROOT / "tests" / "e2e" / "image"
    with project_images.building():
        images.build_image(
            context, NAPS_IMAGE, build_args={"EXAMPLE_IMAGE": ours.example}, builder=cluster_images.buildah()
        )
    cluster_images.load_image(cluster, NAPS_IMAGE, cluster_images.ensure_redis_image())


def install(cluster: Cluster) -> None:
    """`helm install` as README says it, from the local images, in a namespace with the strictest Pod Security."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM, "labels": RESTRICTED}})
    values = [
        "--set", f"image.registry={project_images.REGISTRY}",
        "--set", f"workerImage.registry={project_images.REGISTRY}",
        "--wait", "--timeout", "240s",
    ]  # fmt: skip
    cluster.helm("install", "toril", str(ROOT / "charts" / "toril"), "-n", SYSTEM, *values, timeout=300)


RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def example_manifests(**scaling: Any) -> list[dict[str, Any]]:
    """`examples/zettanote/queues.yaml` with the local image and other `spec.scaling` fields: an overlay."""
    documents: list[dict[str, Any]] = list(yaml.safe_load_all((EXAMPLE / "queues.yaml").read_text()))
    use_local_images(documents)
    for document in documents:
        document["spec"]["scaling"] |= scaling
    return documents


def use_local_images(documents: Sequence[dict[str, Any]]) -> None:
    """Have the JobQueues of a manifest use the images that are on the node."""
    for document in documents:
        if document["kind"] == "JobQueue":
            worker = document["spec"]["worker"]
            worker["image"] = f"{project_images.REGISTRY}/{worker['image']}"


def naps_manifest(name: str = "naps", **scaling: Any) -> dict[str, Any]:
    """A JobQueue for the jobs of `tests/e2e/image/naps.py`."""
    worker = {"image": NAPS_IMAGE, "concurrency": 4, "processor": {"python": {"module": "naps"}}}
    spec = {"queueName": "naps", "redis": {"url": "redis://redis:6379"}, "worker": worker, "scaling": scaling}
    return {"apiVersion": "toril.dev/v1alpha1", "kind": "JobQueue", "metadata": {"name": name}, "spec": spec}


class Redis:
    """A Redis server in a namespace of the cluster; its data survives its pod."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        labels = {"app": "redis"}
        command = ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", "/data"]
        container = {
            "name": "redis",
            "image": cluster_images.ensure_redis_image(),
            "imagePullPolicy": "IfNotPresent",
            "command": [*command, "--appendonly", "yes"],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "readinessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 1},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }
        folder = f"/run/redis-data/{namespace}"
        cluster.processes.run("install", "-d", "-o", str(REDIS_USER), "-g", str(REDIS_USER), folder)
        pod = {
            "securityContext": {"runAsNonRoot": True, "runAsUser": REDIS_USER},
            "terminationGracePeriodSeconds": 5,
            "containers": [container],
            "volumes": [{"name": "data", "hostPath": {"path": folder}}],
        }
        cluster.apply(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "redis"},
                "spec": {
                    "strategy": {"type": "Recreate"},
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": pod},
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "redis"},
                "spec": {"selector": labels, "ports": [{"port": 6379}]},
            },
            namespace=namespace,
        )
        self.wait_ready()

    @property
    def host(self) -> str:
        """Its name for programs on the node."""
        return f"redis.{self.namespace}.svc.cluster.local"

    @property
    def url(self) -> str:
        return f"redis://{self.host}:6379"

    def wait_ready(self) -> None:
        """Wait until its Service answers: a moment after its pod is ready."""
        self.cluster.kubectl("rollout", "status", "deployment/redis", "-n", self.namespace, "--timeout=120s")
        connect = f"import socket; socket.create_connection(('{self.host}', 6379), 5)"
        probe = [sys.executable, "-I", "-c", connect]
        wait_until(lambda: self.cluster.run(probe).returncode == 0, "Redis to answer", timeout_seconds=60)

    def scale(self, replicas: int) -> None:
        self.cluster.kubectl("scale", "deployment/redis", f"--replicas={replicas}", "-n", self.namespace)

    def cli(self, *command: str) -> str:
        """Output of one command of redis-cli, inside the server's pod."""
        return self.cluster.kubectl("exec", "deployment/redis", "-n", self.namespace, "--", "redis-cli", *command)


@dataclass
class Watched:
    """What one Deployment was asked to have, each change once, and when (monotonic seconds)."""

    wanted: list[int] = field(default_factory=list)
    at: list[float] = field(default_factory=list)


class ReplicaWatch:
    """Follows the Deployments of a namespace for the length of a `with` block."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.by_name: dict[str, Watched] = {}
        template = "jsonpath={.metadata.name} {.spec.replicas}{'\\n'}"
        process = self._process = cluster.popen(
            [cluster.program, "kubectl", "get", "deployments", "-n", namespace, "--watch", "-o", template],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        self._lines = process.stdout
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def of(self, jobqueue: str) -> Watched:
        """The workers of one JobQueue."""
        return self.by_name.setdefault(f"jq-{jobqueue}", Watched())

    def __enter__(self) -> ReplicaWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        self._lines.close()

    def _follow(self) -> None:
        for line in self._lines:
            name, _, text = line.strip().partition(" ")
            watched = self.by_name.setdefault(name, Watched())
            if text and (not watched.wanted or watched.wanted[-1] != int(text)):
                watched.wanted.append(int(text))
                watched.at.append(time.monotonic())


def run_producer(cluster: Cluster, redis: Redis, *options: str, timeout: float = 240) -> dict[str, Any]:
    """Run the example's `produce.mjs` with the real bullmq; its summary. Fails when a job did not go as planned."""
    argv = ["node", str(EXAMPLE / "produce.mjs"), *options]
    done = cluster.run(argv, env={"REDIS_URL": redis.url}, cwd=PEERS, timeout=timeout)
    assert done.stdout, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, summary
    return summary


def conditions(cluster: Cluster, namespace: str, name: str, kind: str = "jobqueue") -> dict[str, Mapping[str, Any]]:
    """An object's conditions by type."""
    found = cluster.get(kind, name, "-n", namespace).get("status", {}).get("conditions", [])
    return {condition["type"]: condition for condition in found}


def wait_condition(
    cluster: Cluster, namespace: str, name: str, condition_type: str, status: str, *, timeout: float = 120,
    kind: str = "jobqueue",
) -> Mapping[str, Any]:  # fmt: skip
    """Wait until a condition of an object has a status; the condition."""

    def found() -> Mapping[str, Any] | None:
        condition = conditions(cluster, namespace, name, kind).get(condition_type)
        return condition if condition and condition["status"] == status else None

    what = f"{condition_type}={status} of {kind} {name}"
    found_condition = wait_until(found, what, timeout_seconds=timeout, interval_seconds=0.3)
    assert found_condition is not None
    return found_condition


def workers(cluster: Cluster, namespace: str, jobqueue: str) -> list[dict[str, Any]]:
    """The pods of a JobQueue's workers that are not being ended."""
    selector = cluster.get("deployment", f"jq-{jobqueue}", "-n", namespace)["spec"]["selector"]["matchLabels"]
    labels = ",".join(f"{name}={value}" for name, value in selector.items())
    pods = cluster.get("pods", "-n", namespace, "-l", labels)["items"]
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def kill_container(cluster: Cluster, pod: Mapping[str, Any]) -> None:
    """End the main process of a pod's first container with SIGKILL, as a crash or the kernel would."""
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    ctr = cluster_images.ctr(cluster.processes.folder)
    cluster.processes.run(*ctr, "tasks", "kill", "--signal", "SIGKILL", container)


def operator_pod(cluster: Cluster) -> dict[str, Any]:
    pods = cluster.get("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=toril")["items"]
    running = [pod for pod in pods if pod["status"]["phase"] == "Running"]
    assert len(running) == 1, [pod["metadata"]["name"] for pod in pods]
    return dict(running[0])
