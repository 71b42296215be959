"""A real Kubernetes API server with its controllers, no node: pods stay Pending."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from support import cluster_fixtures, kube_api
from support.cluster import Cluster, control_plane
from support.job_queues import CronJobSchedules, JobQueues
from support.kube_api import KubeApi
from support.operator_process import OperatorProcess, SharedOperator

LONGEST = (
    "test_a_redis_that_lost_them_gets_them_again",
    "test_what_is_left_behind_is_swept",
    "test_from_no_resource_over_outages_to_a_new_one",
    "test_a_crash_scales_nothing_down",
    "test_certificates_from_secrets",
)
"""The longest first: they wait for the operator's minute, and for calls to be given up."""


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


@pytest.fixture(scope="session")
def shared_operator() -> Iterator[SharedOperator]:
    """Not running yet."""
    shared = SharedOperator()
    yield shared
    shared.end()


@pytest.fixture
def operator(shared_operator: SharedOperator, cluster: Cluster, our_types: None) -> OperatorProcess:
    """One operator for all namespaces and many tests. Tests that harm it start their own."""
    return shared_operator.running_on(cluster)


@pytest.fixture(autouse=True)
def no_operator_but_its_own(request: pytest.FixtureRequest, shared_operator: SharedOperator) -> None:
    """A test that does not ask for the shared operator has nothing on the cluster but what it starts."""
    if "operator" not in request.fixturenames:
        shared_operator.end()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have each process begin with some of what waits longest, and then with the tests that share an operator.

    `--dist worksteal` gives each process a run of neighbours, so the longest would else be one process's, at the end.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    longest = sorted((item for item in items if item.name in LONGEST), key=lambda item: LONGEST.index(item.name))
    others = [item for item in items if item.name not in LONGEST]
    others.sort(key=lambda item: "operator" not in getattr(item, "fixturenames", ()))
    size = -(-len(others) // processes)
    items[:] = itertools.chain.from_iterable(
        [*longest[number::processes], *others[number * size : (number + 1) * size]] for number in range(processes)
    )


@pytest.fixture
def queues(api: KubeApi, namespace: str, our_types: None) -> JobQueues:
    """The JobQueues of the test's namespace; none yet."""
    return JobQueues(api, namespace)


@pytest.fixture
def schedules(queues: JobQueues) -> CronJobSchedules:
    """The CronJobSchedules of the test's namespace; none yet."""
    return CronJobSchedules(queues)
