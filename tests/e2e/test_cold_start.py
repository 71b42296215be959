"""From an add to an idle queue without workers to the start of its function. Measured and printed, not judged."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from support import product
from support.cluster import Cluster
from support.product import Redis
from support.waiting import wait_until

ROUNDS = 10
ADD_NAPS = Path(__file__).with_name("add_naps.py")


def test_a_job_wakes_its_queue(installed: Cluster, namespace: str) -> None:
    redis = Redis(installed, namespace)
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    manifest = product.naps_manifest(cooldownSeconds=0, behavior=behavior)
    installed.apply(manifest, namespace=namespace)
    product.wait_condition(installed, namespace, "naps", "Ready", "True")
    measured = []
    for _ in range(ROUNDS):

        def is_asleep() -> bool:
            return not installed.get("pods", "-n", namespace, "-l", "app.kubernetes.io/component=worker")["items"]

        wait_until(is_asleep, "all workers to be gone", timeout_seconds=120, interval_seconds=0.3)
        done = installed.run([sys.executable, ADD_NAPS, "measure"], env={"REDIS_URL": redis.url}, timeout=150)
        assert done.returncode == 0, done.stderr
        measured.append(int(done.stdout))
    print(f"from zero to the function's start, ms: median {statistics.median(measured):.0f} of {sorted(measured)}")
