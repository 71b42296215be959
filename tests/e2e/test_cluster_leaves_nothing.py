"""A test run that is killed leaves nothing of its node: no process, no mount, no cgroup, no file."""

from __future__ import annotations

import json

import pytest

from support import cluster_images, cluster_node, cluster_remains, waiting
from support.cluster_errors import UnavailableError
from support.cluster_harness import StartedCommand


# The cluster of the other tests runs beside it: neither may touch the other.
@pytest.mark.usefixtures("cluster")
def test_a_killed_run_leaves_nothing_of_its_node() -> None:
    try:
        cluster_node.require_node()
    except UnavailableError as error:
        pytest.skip(f"not run: {error}")
    image = cluster_images.ensure_pause_image()
    container = {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": {"containers": [container]}}
    with StartedCommand() as started:
        manifest = started.folder / "pod.json"
        manifest.write_text(json.dumps(pod))
        started.kubectl("apply", "-f", str(manifest))
        started.kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=120s")

        processes = cluster_remains.descendants(started.pid)
        left = cluster_remains.remains(started.folder, processes)
        assert any("/pause" in line for line in left)
        assert any(line.startswith("mount: ") for line in left)
        assert any(line.startswith("cgroup: ") for line in left)

        started.kill()
        waiting.wait_until(
            lambda: not cluster_remains.remains(started.folder, processes), "all of it to be gone", timeout_seconds=60
        )
