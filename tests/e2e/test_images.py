"""The images keep to what the chart and the operator promise of them: any user, nothing writable but /tmp."""

from __future__ import annotations

from typing import Any

import pytest

from support.cluster import Cluster
from support.project_images import Tags
from support.waiting import wait_until

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
ANY_USER = 1_234_567
"""A user that no image knows, as some platforms choose one for each namespace."""


def strict_pod(name: str, image: str) -> dict[str, Any]:
    """A pod of `image` as it stands, with the least rights there are."""
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = {
        "containers": [container],
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": ANY_USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def ended(cluster: Cluster, namespace: str, pod: str) -> tuple[int, str]:
    """Exit code and output of a pod that runs to its end."""

    def state() -> Any:
        found = cluster.get("pod", pod, "-n", namespace)["status"].get("containerStatuses", [{}])[0]
        return found.get("state", {}).get("terminated")

    code = wait_until(state, f"the end of {pod}", timeout_seconds=120, interval_seconds=0.2)["exitCode"]
    return code, cluster.kubectl("logs", pod, "-n", namespace)


@pytest.mark.requirement("T74")
@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("operator", "required: --worker-image"),
        ("worker", "TORIL_QUEUE is missing"),
        ("example", "TORIL_QUEUE is missing"),
    ],
)
def test_any_user_can_run_it_without_writing_anywhere(
    cluster: Cluster, project_images: Tags, which: str, says: str
) -> None:
    namespace = cluster.create_namespace("images", RESTRICTED)
    cluster.apply(strict_pod("main", getattr(project_images, which)), namespace=namespace)
    # Told nothing, each says what it needs and ends; all its code has been loaded by then.
    code, log = ended(cluster, namespace, "main")
    assert code == 2
    assert says in log
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")
