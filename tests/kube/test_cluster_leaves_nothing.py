"""A test run that is killed leaves nothing of its control plane."""

from __future__ import annotations

from support import cluster_remains, waiting
from support.cluster_harness import StartedCommand


def test_a_killed_run_leaves_nothing_of_its_control_plane() -> None:
    with StartedCommand("--no-node") as started:
        assert started.kubectl("get", "namespace", "default", "-o", "name").strip() == "namespace/default"
        processes = cluster_remains.descendants(started.pid)
        # The supervisor and its four components.
        assert len(processes) == 5
        started.kill()
        waiting.wait_until(
            lambda: not cluster_remains.remains(started.folder, processes), "all of it to be gone", timeout_seconds=60
        )
