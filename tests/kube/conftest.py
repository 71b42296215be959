"""A real Kubernetes API server with its controllers, no node: pods stay Pending."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import cluster_fixtures, kube_api, operator_process
from support.cluster import Cluster, control_plane
from support.job_queues import CronJobSchedules, JobQueues
from support.kube_api import KubeApi
from support.operator_process import OperatorProcess


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """One control plane for the whole run. Tests that break it start their own with `control_plane()`."""
    yield from cluster_fixtures.session_cluster(request, control_plane)


@pytest.fixture
def namespace(cluster: Cluster, api: KubeApi) -> Iterator[str]:
    """A namespace of the test's own."""
    name = cluster.namespace_name()
    api.create_namespace(name)
    yield name
    api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def our_types(cluster: Cluster) -> None:
    """The resources of toril.dev."""
    kube_api.install_crds(cluster)


@pytest.fixture(scope="session")
def api(cluster: Cluster) -> Iterator[KubeApi]:
    """The API server, spoken to directly."""
    client = KubeApi(cluster)
    yield client
    client.close()


@pytest.fixture(scope="module")
def operator(cluster: Cluster, our_types: None) -> Iterator[OperatorProcess]:
    """One operator for all namespaces and for the tests of one file. Tests that harm it start their own."""
    with operator_process.start(cluster) as running:
        yield running


@pytest.fixture
def queues(api: KubeApi, namespace: str, our_types: None) -> JobQueues:
    """The JobQueues of the test's namespace; none yet."""
    return JobQueues(api, namespace)


@pytest.fixture
def schedules(queues: JobQueues) -> CronJobSchedules:
    """The CronJobSchedules of the test's namespace; none yet."""
    return CronJobSchedules(queues)
