"""A worker's container is killed while it runs a job: the kubelet starts it anew, and the job runs again at once."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support import product, soak
from support.cluster import Cluster
from support.product import Redis
from support.waiting import wait_until

ADD_NAPS = Path(__file__).with_name("add_naps.py")
NAP_SECONDS = 2
NEVER_MS = 3_600_000
"""Neither a lock nor a stalled check gives a job back while the test runs: only its worker's return does."""


def naps_with_long_locks() -> dict[str, Any]:
    manifest = product.naps_manifest(mode="Manual")
    manifest["spec"]["replicas"] = 1
    manifest["spec"]["worker"]["bullmq"] = {"lockDuration": NEVER_MS, "stalledInterval": NEVER_MS}
    return manifest


def ready_worker(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """The worker's pod, once it takes jobs and has never been restarted: the kubelet restarts it without a pause."""

    def found() -> dict[str, Any] | None:
        for pod in product.workers(cluster, namespace, "naps"):
            (status,) = pod["status"].get("containerStatuses") or [{"ready": False}]
            if status["ready"] and not status["restartCount"]:
                return pod
        return None

    pod = wait_until(found, "a new worker to be ready", timeout_seconds=150, interval_seconds=0.3)
    assert pod is not None
    return pod


def run_naps(cluster: Cluster, redis: Redis, command: str, job_id: str) -> list[dict[str, Any]]:
    argv: list[str | Path] = [sys.executable, ADD_NAPS, command, job_id, str(NAP_SECONDS)]
    done = cluster.run(argv, env={"REDIS_URL": redis.url}, timeout=240)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout or "[]"))


@pytest.mark.parametrize("rounds", soak.lengths(1, 20))
def test_the_job_of_a_killed_container_runs_again_when_that_is_back(
    installed: Cluster, namespace: str, rounds: int
) -> None:
    redis = Redis(installed, namespace)
    installed.apply(naps_with_long_locks(), namespace=namespace)
    measured = []
    for number in range(rounds):
        pod = ready_worker(installed, namespace)
        name = pod["metadata"]["name"]
        run_naps(installed, redis, "add-one", f"round-{number}")
        logs = f"bull:naps:round-{number}:logs"
        wait_until(lambda logs=logs: redis.cli("LLEN", logs).strip() == "1", "the job to run", timeout_seconds=60)  # type: ignore[misc]
        product.kill_container(installed, pod)
        killed_ms = time.time_ns() // 1_000_000
        (job,) = run_naps(installed, redis, "report-one", f"round-{number}")
        assert (job["state"], job["starts"], job["result"]["pod"]) == ("completed", 2, name)
        measured.append(job["result"]["startedMs"] - killed_ms)
        # The next round's worker is a new pod: the kubelet waits longer for each restart of the same one.
        installed.kubectl("delete", "pod", name, "-n", namespace, "--wait=false")
    print(f"from SIGKILL to the job's next start, ms: median {statistics.median(measured):.0f} of {sorted(measured)}")
