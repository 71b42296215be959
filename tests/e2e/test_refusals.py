"""What the API server refuses before anything of ours sees it: with the field's path in the message."""

from __future__ import annotations

from typing import Any

import pytest

from support import product
from support.cluster import Cluster
from support.cluster_errors import ClusterError


@pytest.mark.requirement("T76")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scaling": {"minReplicas": 5, "maxReplicas": 2}}, "spec.scaling.minReplicas"),
        ({"scaling": {"maxReplica": 2}}, 'unknown field "spec.scaling.maxReplica"'),
        ({"queueName": "a:b"}, "spec.queueName"),
    ],
)
def test_a_wrong_jobqueue_is_refused(installed: Cluster, namespace: str, changes: dict[str, Any], words: str) -> None:
    manifest = product.naps_manifest("wrong")
    manifest["spec"] |= changes
    with pytest.raises(ClusterError) as refused:
        installed.apply(manifest, namespace=namespace)
    print(refused.value)
    assert words in str(refused.value)
    assert installed.get("jobqueues", "-n", namespace)["items"] == []
