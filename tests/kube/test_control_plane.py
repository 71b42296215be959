"""What we rely on of a real API server, and a stand-in would not show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from support import kube_api
from support.cluster import Cluster
from support.cluster_errors import ClusterError


@pytest.fixture(scope="module")
def kind(cluster: Cluster) -> Iterator[str]:
    """A resource whose rule is that `minReplicas` must not exceed `maxReplicas`."""
    integer = {"type": "integer"}
    rule = {
        "rule": "self.minReplicas <= self.maxReplicas",
        "message": "minReplicas must not exceed maxReplicas",
        "fieldPath": ".minReplicas",
    }
    spec = {
        "type": "object",
        "properties": {"minReplicas": integer, "maxReplicas": {**integer, "default": 10}},
        "required": ["minReplicas"],
        "x-kubernetes-validations": [rule],
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
    }
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "ranges.tests.toril.dev"},
        "spec": {
            "group": "tests.toril.dev",
            "names": {"kind": "Range", "plural": "ranges", "singular": "range"},
            "scope": "Namespaced",
            "versions": [version],
        },
    }
    cluster.apply(definition)
    kube_api.wait_served(cluster, "ranges.tests.toril.dev")
    yield "ranges.tests.toril.dev"
    cluster.kubectl("delete", "crd", "ranges.tests.toril.dev")


def range_object(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "tests.toril.dev/v1", "kind": "Range", "metadata": {"name": "one"}, "spec": spec}


def deployment(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "one"}}, "spec": {"containers": [{"name": "main", "image": "none"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "one"},
        "spec": {"selector": {"matchLabels": {"app": "one"}}, "template": template, **spec},
    }


def server_side_apply(cluster: Cluster, namespace: str, manager: str, manifest: dict[str, Any], *flags: str) -> str:
    return cluster.kubectl(
        "apply", "--server-side", f"--field-manager={manager}", "-n", namespace, *flags, "-f", "-",
        stdin=yaml.safe_dump(manifest),
    )  # fmt: skip


def test_a_broken_rule_is_refused_with_the_path_of_its_field(cluster: Cluster, namespace: str, kind: str) -> None:
    with pytest.raises(
        ClusterError, match=r"spec\.minReplicas: Invalid value: .*minReplicas must not exceed maxReplicas"
    ):
        cluster.apply(range_object(minReplicas=5, maxReplicas=2), namespace=namespace)
    assert cluster.get(kind, "-n", namespace)["items"] == []


def test_an_unknown_field_is_refused_with_its_path(cluster: Cluster, namespace: str, kind: str) -> None:
    with pytest.raises(ClusterError, match=r'unknown field "spec\.minReplica"'):
        cluster.apply(range_object(minReplicas=1, minReplica=1), namespace=namespace)


def test_defaults_of_the_schema_are_filled_in(cluster: Cluster, namespace: str, kind: str) -> None:
    cluster.apply(range_object(minReplicas=1), namespace=namespace)
    assert cluster.get(kind, "one", "-n", namespace)["spec"] == {"minReplicas": 1, "maxReplicas": 10}


def test_replicas_that_are_not_applied_stay_as_scaled(cluster: Cluster, namespace: str) -> None:
    server_side_apply(cluster, namespace, "operator", deployment())
    cluster.kubectl("scale", "deployment/one", "--replicas=3", "-n", namespace)
    server_side_apply(cluster, namespace, "operator", deployment(minReadySeconds=1))
    spec = cluster.get("deployment", "one", "-n", namespace)["spec"]
    assert (spec["replicas"], spec["minReadySeconds"]) == (3, 1)


def test_replicas_that_another_manager_scaled_are_a_conflict_until_forced(cluster: Cluster, namespace: str) -> None:
    server_side_apply(cluster, namespace, "operator", deployment(replicas=1))
    cluster.kubectl("scale", "deployment/one", "--replicas=3", "-n", namespace)
    with pytest.raises(ClusterError, match=r'(?s)conflict with "kubectl".*subresource "scale".*\.spec\.replicas'):
        server_side_apply(cluster, namespace, "operator", deployment(replicas=2))
    server_side_apply(cluster, namespace, "operator", deployment(replicas=2), "--force-conflicts")
    assert cluster.get("deployment", "one", "-n", namespace)["spec"]["replicas"] == 2


def test_a_field_that_is_no_longer_applied_is_removed(cluster: Cluster, namespace: str) -> None:
    server_side_apply(cluster, namespace, "operator", deployment(minReadySeconds=7))
    server_side_apply(cluster, namespace, "operator", deployment())
    assert "minReadySeconds" not in cluster.get("deployment", "one", "-n", namespace)["spec"]


def test_controllers_make_pods_which_stay_pending_without_a_node(cluster: Cluster, namespace: str) -> None:
    server_side_apply(cluster, namespace, "operator", deployment(replicas=2))
    condition = "--for=jsonpath={.status.replicas}=2"
    cluster.kubectl("wait", "deployment/one", condition, "-n", namespace, "--timeout=60s")
    phases = {pod["status"]["phase"] for pod in cluster.get("pods", "-n", namespace)["items"]}
    assert phases == {"Pending"}
