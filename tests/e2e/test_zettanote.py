"""Two of ZettaNote's queues on a real Kubernetes, their jobs added by the real bullmq."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import product
from support.cluster import Cluster
from support.product import Redis, ReplicaWatch
from support.waiting import wait_until


@pytest.fixture
def redis(installed: Cluster, namespace: str) -> Redis:
    return Redis(installed, namespace)


def wait_for_zero(watch: ReplicaWatch, *names: str) -> None:
    def is_at_zero() -> bool:
        return all(watch.of(name).wanted[-1:] == [0] for name in names)

    wait_until(is_at_zero, f"{' and '.join(names)} to be at zero", timeout_seconds=180)


@pytest.mark.requirement(
    "Z-05", "Z-06", "Z-17", "Z-18", "Z-19", "Z-20", "Z-21", "Z-22", "Z-24", "Z-26", "Z-27", "Z-28", "Z-29", "Z-40"
)
def test_from_zero_to_many_to_zero_and_a_killed_worker(installed: Cluster, namespace: str, redis: Redis) -> None:
    installed.apply(*product.example_manifests(cooldownSeconds=10), namespace=namespace)
    product.wait_condition(installed, namespace, "page-save", "Ready", "True")
    with ReplicaWatch(installed, namespace) as watch:
        options = ["--page-save", "500", "--image-upload", "200", "--failing-twice", "2", "--invalid", "2"]
        summary = product.run_producer(installed, redis, *options)
        print(f"first run: {summary}")
        assert summary["queues"]["page-save"] == {"added": 502, "completed": 502, "failed": 0, "started": 506}
        assert summary["queues"]["image-upload"] == {"added": 202, "completed": 200, "failed": 2, "started": 202}
        assert len(summary["retryGapsMs"]) == 2
        for first, second in summary["retryGapsMs"]:
            assert 5000 <= first < 10_000
            assert 10_000 <= second < 20_000
        print(installed.kubectl("get", "jq", "-n", namespace))
        wait_for_zero(watch, "page-save", "image-upload")
        for name, most in (("page-save", 4), ("image-upload", 3)):
            wanted = watch.of(name).wanted
            print(f"{name}: replicas {wanted}")
            assert wanted[0] == 0
            assert max(wanted) == most

    with ThreadPoolExecutor() as pool:
        killing = pool.submit(kill_a_busy_worker, installed, namespace, redis)
        # Enough for its worker to be found at work, however long that takes.
        options = ["--page-save", "0", "--image-upload", "600", "--allow-restarts"]
        second = product.run_producer(installed, redis, *options)
        killing.result()
    print(f"second run, one worker killed: {second}")
    assert second["queues"]["image-upload"]["completed"] == 600
    assert second["queues"]["image-upload"]["failed"] == 0
    assert second["queues"]["image-upload"]["started"] > 600
    assert redis.cli("LLEN", "bull:image-upload:wait").strip() == "0"
    assert redis.cli("HGET", "bull:image-upload:meta", "opts.maxLenEvents").strip() == "10000"


def kill_a_busy_worker(cluster: Cluster, namespace: str, redis: Redis) -> None:
    """Wait until a job runs, then end the worker that runs it with SIGKILL."""

    def busy() -> str:
        job_id = redis.cli("LINDEX", "bull:image-upload:active", "0").strip()
        return redis.cli("HGET", f"bull:image-upload:{job_id}", "pb").strip() if job_id else ""

    name = wait_until(busy, "a running job of image-upload", timeout_seconds=120)
    product.kill_container(cluster, cluster.get("pod", name, "-n", namespace))


@pytest.mark.requirement("T65")
def test_a_killed_operator_ends_in_the_same_state(installed: Cluster, namespace: str, redis: Redis) -> None:
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 10}}
    installed.apply(*product.example_manifests(cooldownSeconds=10, behavior=behavior), namespace=namespace)
    product.wait_condition(installed, namespace, "page-save", "Ready", "True")
    with ReplicaWatch(installed, namespace) as watch, ThreadPoolExecutor() as pool:
        images = watch.of("image-upload").wanted
        # Twenty seconds of work for the second queue; of the first one no more than its retention keeps.
        options = ["--page-save", "500", "--image-upload", "600"]
        producing = pool.submit(product.run_producer, installed, redis, *options)
        wait_until(lambda: images[-1:] == [3], "three workers", timeout_seconds=120)
        before = product.operator_pod(installed)
        restarts = before["status"]["containerStatuses"][0]["restartCount"]
        product.kill_container(installed, before)
        killed_at = time.monotonic()

        def is_back() -> bool:
            status = product.operator_pod(installed)["status"]["containerStatuses"][0]
            return bool(status["restartCount"] > restarts and status["ready"])

        wait_until(is_back, "the operator to be back", timeout_seconds=120, interval_seconds=0.3)
        print(f"operator back {time.monotonic() - killed_at:.1f} s after its SIGKILL")
        summary = producing.result(240)
        print(f"operator killed in between: {summary}")
        assert summary["queues"]["page-save"] == {"added": 500, "completed": 500, "failed": 0, "started": 500}
        assert summary["queues"]["image-upload"] == {"added": 600, "completed": 600, "failed": 0, "started": 600}
        wait_for_zero(watch, "page-save", "image-upload")
        for name in ("page-save", "image-upload"):
            wanted = watch.of(name).wanted
            print(f"{name}: replicas {wanted}")
            # Up, and down only once there was nothing left to do.
            top = wanted.index(max(wanted))
            assert wanted[: top + 1] == sorted(wanted[: top + 1])
            assert wanted[top:] == sorted(wanted[top:], reverse=True)
