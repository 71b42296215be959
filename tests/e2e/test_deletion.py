"""Deleting a JobQueue, its namespace, and the operator."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support import product
from support.cluster import Cluster
from support.product import Redis
from support.waiting import wait_until

ADD_NAPS = Path(__file__).with_name("add_naps.py")
AT_ONCE = "--timeout=120s"
"""Much less than the ten minutes that a worker is given for its jobs."""


def start_queue(cluster: Cluster, namespace: str) -> Redis:
    """A queue with one idle worker and one finished job."""
    redis = Redis(cluster, namespace)
    cluster.apply(product.naps_manifest(minReplicas=1), namespace=namespace)
    done = cluster.run([sys.executable, ADD_NAPS, "measure"], env={"REDIS_URL": redis.url}, timeout=150)
    assert done.returncode == 0, done.stderr
    return redis


def test_deleting_a_jobqueue_ends_its_workers_and_keeps_its_data(installed: Cluster, namespace: str) -> None:
    redis = start_queue(installed, namespace)
    assert "finalizers" not in installed.get("jobqueue", "naps", "-n", namespace)["metadata"]
    installed.kubectl("delete", "jq", "naps", "-n", namespace, "--timeout=90s")

    def workers_left() -> list[str]:
        found = installed.get("deployments,pods", "-n", namespace, "-l", "app.kubernetes.io/component=worker")["items"]
        return [item["metadata"]["name"] for item in found]

    wait_until(lambda: not workers_left(), "the workers to be gone", timeout_seconds=90, interval_seconds=0.3)
    assert redis.cli("ZCARD", "bull:naps:completed").strip() == "1"


@pytest.mark.requirement("T93")
def test_a_namespace_with_idle_workers_goes_at_once_also_without_the_operator(installed: Cluster) -> None:
    first, second = (installed.create_namespace() for _ in range(2))
    for namespace in (first, second):
        start_queue(installed, namespace)
    installed.kubectl("delete", "namespace", first, AT_ONCE)
    operator = product.operator_pod(installed)["metadata"]["ownerReferences"][0]["name"]
    deployment = operator.rpartition("-")[0]
    try:
        installed.kubectl("scale", "deployment", deployment, "--replicas=0", "-n", product.SYSTEM)
        gone = ["wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=toril", "-n", product.SYSTEM]
        installed.kubectl(*gone, "--timeout=120s")
        installed.kubectl("delete", "namespace", second, AT_ONCE)
    finally:
        installed.kubectl("scale", "deployment", deployment, "--replicas=1", "-n", product.SYSTEM)
        installed.kubectl("rollout", "status", f"deployment/{deployment}", "-n", product.SYSTEM, "--timeout=120s")
