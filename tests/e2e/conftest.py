"""A real Kubernetes with a node: pods run, Services answer, names resolve."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support import cluster_fixtures, cluster_images, product, project_images
from support.cluster import Cluster, node_cluster

LONGEST_FIRST = (
    "test_from_zero_to_many_to_zero_and_a_killed_worker",
    "test_jobs_that_run_through_an_outage_run_once",
    # In time for what the other process builds meanwhile.
    "test_a_killed_run_leaves_nothing_of_its_node",
    "test_every_slot_has_its_job",
    "test_a_killed_operator_ends_in_the_same_state",
    "test_a_namespace_with_idle_workers_goes_at_once_also_without_the_operator",
    "test_deleting_a_jobqueue_ends_its_workers_and_keeps_its_data",
    "test_a_job_wakes_its_queue",
)
"""The order of the run, the others after these: so its processes, each with a cluster of its own, end side by side."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST_FIRST.index(item.name) if item.name in LONGEST_FIRST else len(LONGEST_FIRST))


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """One cluster with a node for each process of a run. Tests that break it start their own with `node_cluster()`."""
    yield from cluster_fixtures.session_cluster(request, node_cluster)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own."""
    name = cluster.create_namespace()
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session", name="project_images")
def project_images_fixture(cluster: Cluster, request: pytest.FixtureRequest, testrun_uid: str) -> project_images.Tags:
    """Tags of what is shipped, built from this checkout and known to the node."""
    with cluster_fixtures.visible_output(request):
        tags = project_images.build_once(testrun_uid)
        cluster_images.load_image(cluster, *tags)
    return tags


def _known_to_the_node(cluster: Cluster, request: pytest.FixtureRequest, ensure: Callable[[], str]) -> str:
    """Tag of the image that `ensure` makes, loaded into the node."""
    with cluster_fixtures.visible_output(request):
        tag = ensure()
        cluster_images.load_image(cluster, tag)
    return tag


@pytest.fixture(scope="session")
def base_image(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """Tag of an image with Debian's Python, known to the node."""
    return _known_to_the_node(cluster, request, cluster_images.ensure_base_image)


@pytest.fixture(scope="session")
def redis_image(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """Tag of an image that runs redis-server, known to the node."""
    return _known_to_the_node(cluster, request, cluster_images.ensure_redis_image)


@pytest.fixture(scope="session")
def installed(cluster: Cluster, project_images: project_images.Tags, request: pytest.FixtureRequest) -> Cluster:
    """The cluster with Toril on it, installed by Helm from the images of this checkout."""
    with cluster_fixtures.visible_output(request):
        product.load_test_images(cluster, project_images)
        product.install(cluster)
    return cluster
