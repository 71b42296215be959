"""A real Kubernetes API server with its controllers, no node: pods stay Pending."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import cluster_fixtures
from support.cluster import Cluster, control_plane


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """One control plane for the whole run. Tests that break it start their own with `control_plane()`."""
    yield from cluster_fixtures.session_cluster(request, control_plane)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own."""
    yield from cluster_fixtures.new_namespace(cluster)
