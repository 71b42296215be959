"""What a real API server makes of the chart: it takes every object, and the roles give what they promise."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import kube_api
from support.cluster import Cluster
from support.cluster_errors import ClusterError
from support.waiting import wait_until

CHART = str(Path(__file__).parents[2] / "charts" / "toril")
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture
def restricted_namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace that takes no pod below the strictest Pod Security Standard."""
    name = cluster.create_namespace("restricted", RESTRICTED)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def operator_pod(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """The pod that the chart's Deployment asks for."""
    text = cluster.helm("template", "toril", CHART, "--namespace", namespace, "--show-only=templates/deployment.yaml")
    template = yaml.safe_load(text)["spec"]["template"]
    # The account is another object of the chart; the namespace has `default` only.
    spec = {**template["spec"], "serviceAccountName": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator", "namespace": namespace}, "spec": spec}


def test_every_object_is_taken(cluster: Cluster, namespace: str) -> None:
    values = ["--set=metrics.service.enabled=true", f"--set=watch.namespaces={{{namespace}}}"]
    for more in ([], values):
        text = cluster.helm("template", "toril", CHART, "--namespace", namespace, *more)
        cluster.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)


@pytest.mark.requirement("T95")
def test_the_operators_pod_keeps_to_the_restricted_standard(cluster: Cluster, restricted_namespace: str) -> None:
    pod = operator_pod(cluster, restricted_namespace)
    cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod))


def test_the_restricted_standard_is_really_asked_for(cluster: Cluster, restricted_namespace: str) -> None:
    pod = copy.deepcopy(operator_pod(cluster, restricted_namespace))
    del pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"]
    with pytest.raises(ClusterError, match=r"violates PodSecurity .*allowPrivilegeEscalation"):
        cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod))


@pytest.fixture
def release(cluster: Cluster, namespace: str) -> Iterator[str]:
    """The chart installed, without its CRDs: the run's tests share those, and a release would own them."""
    name = namespace
    kube_api.install_crds(cluster)
    cluster.helm("install", name, CHART, "--namespace", namespace, "--set=crds.install=false")
    yield name
    cluster.helm("uninstall", name, "--namespace", namespace)


def may(cluster: Cluster, namespace: str, account: str, *question: str) -> bool:
    who = f"--as=system:serviceaccount:{namespace}:{account}"
    answer = cluster.kubectl("auth", "can-i", *question, who, "-n", namespace, check=False).splitlines()
    assert answer[0].split()[0] in ("yes", "no"), answer
    return answer[0].startswith("yes")


def test_the_operator_reads_a_named_secret_and_lists_none(cluster: Cluster, namespace: str, release: str) -> None:
    account = f"{release}-toril"
    # Roles are in force a moment after they are made.
    wait_until(lambda: may(cluster, namespace, account, "get", "secrets/redis"), "the role to be in force")
    assert not may(cluster, namespace, account, "list", "secrets")
    assert not may(cluster, namespace, account, "watch", "secrets")
    assert may(cluster, namespace, account, "delete", "deployments.apps")
    assert not may(cluster, namespace, account, "delete", "pods")


def test_people_may_do_with_queues_what_they_may_with_deployments(
    cluster: Cluster, namespace: str, release: str
) -> None:
    for role in ("edit", "view"):
        cluster.kubectl("create", "serviceaccount", role, "-n", namespace)
        cluster.kubectl(
            "create", "rolebinding", role, f"--clusterrole={role}", f"--serviceaccount={namespace}:{role}",
            "-n", namespace,
        )  # fmt: skip
    # The controller manager adds the chart's roles to the cluster's own a moment later.
    for ours in ("jobqueues.toril.dev", "cronjobschedules.toril.dev"):
        wait_until(lambda ours=ours: may(cluster, namespace, "edit", "create", ours), f"edit may create {ours}")  # type: ignore[misc]
        wait_until(lambda ours=ours: may(cluster, namespace, "view", "list", ours), f"view may list {ours}")  # type: ignore[misc]
        assert not may(cluster, namespace, "view", "create", ours)
