"""Redis is away for a minute while jobs run."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support import product
from support.cluster import Cluster
from support.product import Redis, ReplicaWatch
from support.waiting import wait_until

NAP_SECONDS = 75
AWAY_SECONDS = 60
ADD_NAPS = Path(__file__).with_name("add_naps.py")


@pytest.mark.requirement("T27")
def test_jobs_that_run_through_an_outage_run_once(installed: Cluster, namespace: str) -> None:
    redis = Redis(installed, namespace)
    installed.apply(product.naps_manifest(maxReplicas=2), namespace=namespace)
    product.wait_condition(installed, namespace, "naps", "Ready", "True")
    with ReplicaWatch(installed, namespace) as watch:
        run_through_outage(installed, namespace, redis)
        wanted = watch.of("naps").wanted
        print(f"replicas: {wanted}")
        assert wanted[-1] == 2
        assert wanted == sorted(wanted)


def run_through_outage(installed: Cluster, namespace: str, redis: Redis) -> None:
    added = installed.run([sys.executable, ADD_NAPS, "add", "8", str(NAP_SECONDS)], env={"REDIS_URL": redis.url})
    assert added.returncode == 0, added.stderr
    wait_until(lambda: redis.cli("LLEN", "bull:naps:active").strip() == "8", "eight running jobs", timeout_seconds=120)

    redis.scale(0)
    away_since = time.monotonic()
    unreachable = product.wait_condition(installed, namespace, "naps", "RedisReachable", "False")
    print(f"RedisReachable=False after {time.monotonic() - away_since:.1f} s: {unreachable}")
    assert unreachable["reason"] in ("ConnectionRefused", "Timeout")
    wait_until(lambda: time.monotonic() - away_since >= AWAY_SECONDS, "the outage to last", timeout_seconds=90)
    redis.scale(1)
    redis.wait_ready()
    back_since = time.monotonic()
    product.wait_condition(installed, namespace, "naps", "RedisReachable", "True")
    print(f"RedisReachable=True {time.monotonic() - back_since:.1f} s after its return")

    done = installed.run(
        [sys.executable, ADD_NAPS, "report", "8"], env={"REDIS_URL": redis.url}, timeout=NAP_SECONDS + 180
    )
    assert done.returncode == 0, done.stderr
    jobs: list[dict[str, Any]] = json.loads(done.stdout)
    print(f"jobs after the outage: {jobs}")
    assert [job["state"] for job in jobs] == ["completed"] * 8
    assert [job["starts"] for job in jobs] == [1] * 8
    assert [job["stalls"] for job in jobs] == [0] * 8
