"""What docs/operating.md says of `kubectl scale`, beside `kubectl apply` and `helm upgrade`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support.cluster import Cluster
from support.cluster_errors import ClusterError
from support.job_queues import JobQueues, job_queue

CHART = str(Path(__file__).parents[2] / "charts" / "toril")


@pytest.fixture
def release(cluster: Cluster, namespace: str) -> Iterator[str]:
    """A release of the chart; its operator never runs, since there is no node."""
    cluster.helm("install", "toril", CHART, "-n", namespace, "--set", "crds.install=false,rbac.aggregate=false")
    yield namespace
    cluster.helm("uninstall", "toril", "-n", namespace)


def test_an_apply_undoes_a_zero_and_refuses_other_numbers_unless_the_manifest_leaves_replicas_out(
    cluster: Cluster, queues: JobQueues
) -> None:
    def apply(name: str, **spec: object) -> None:
        manifest = job_queue(name, "redis://redis:6379", scaling={"mode": "Manual"}, **spec)
        cluster.kubectl("apply", "--server-side", "-n", queues.namespace, "-f", "-", stdin=yaml.safe_dump(manifest))

    def scale(name: str, replicas: int) -> None:
        cluster.kubectl("scale", f"jobqueue/{name}", f"--replicas={replicas}", "-n", queues.namespace)
        assert queues.get(name)["spec"]["replicas"] == replicas

    apply("named", replicas=3)
    scale("named", 0)
    apply("named", replicas=3)
    assert queues.get("named")["spec"]["replicas"] == 3
    scale("named", 7)
    with pytest.raises(ClusterError, match=r"conflict.*\.spec\.replicas"):
        apply("named", replicas=3)
    apply("free")
    for replicas in (7, 0):
        scale("free", replicas)
        apply("free")
        assert queues.get("free")["spec"]["replicas"] == replicas


def test_helm_upgrade_starts_a_stopped_operator_and_refuses_another_number(cluster: Cluster, release: str) -> None:
    scale = ["scale", "deployment/toril", "-n", release]
    upgrade = ["upgrade", "toril", CHART, "-n", release, "--reuse-values"]

    def replicas() -> int:
        return int(cluster.get("deployment", "toril", "-n", release)["spec"]["replicas"])

    cluster.kubectl(*scale, "--replicas=0")
    cluster.helm(*upgrade)
    assert replicas() == 1
    cluster.kubectl(*scale, "--replicas=3")
    with pytest.raises(ClusterError, match=r"conflict.*\.spec\.replicas"):
        cluster.helm(*upgrade)
    cluster.kubectl(*scale, "--replicas=1")
    cluster.helm(*upgrade)
    assert replicas() == 1
