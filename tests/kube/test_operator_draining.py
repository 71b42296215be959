"""Pods that are being deleted: their workers are flagged in Redis and take nothing, however late they begin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from support.job_queues import JobQueues, add_jobs, job_queue
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("operator")
FLAGS = "bull:email:toril:draining"
HOLDER = "test.toril.dev/hold"


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def start(queues: JobQueues, url: str, workers: int) -> list[str]:
    """The JobQueue `email` with so many pods, which stay where they are until `let_go`; their names."""
    queues.create(job_queue("email", url, scaling={"mode": "Manual"}, replicas=workers))
    wait_until(lambda: len(queues.pods("email")) == workers, "the pods", timeout_seconds=60)
    names = sorted(pod["metadata"]["name"] for pod in queues.pods("email"))
    for name in names:
        queues.api.patch(pod_path(queues, name), {"metadata": {"finalizers": [HOLDER]}})
    return names


def let_go(queues: JobQueues, name: str) -> None:
    queues.api.patch(pod_path(queues, name), {"metadata": {"finalizers": None}})


def pod_path(queues: JobQueues, name: str) -> str:
    return f"/api/v1/namespaces/{queues.namespace}/pods/{name}"


def flagged(server: redis.Redis) -> list[str]:
    return sorted(map(str, server.hgetall(FLAGS)))


def test_a_pod_that_is_being_deleted_is_flagged_until_it_is_gone(
    queues: JobQueues, redis_url: str, server: redis.Redis
) -> None:
    first, second = start(queues, redis_url, 2)
    queues.api.delete(pod_path(queues, first))
    wait_until(lambda: flagged(server) == [first], "the flag", timeout_seconds=90)
    assert 0 < server.pttl(FLAGS) <= 60_000, "a flag ends with its operator"
    queues.api.delete(pod_path(queues, second))
    wait_until(lambda: flagged(server) == [first, second], "both flags", timeout_seconds=90)
    let_go(queues, first)
    wait_until(lambda: flagged(server) == [second], "the flag of the pod that is gone to go", timeout_seconds=90)
    let_go(queues, second)
    wait_until(lambda: flagged(server) == [], "the other flag to go", timeout_seconds=90)


def test_pods_of_a_job_queue_that_is_gone(queues: JobQueues, redis_url: str, server: redis.Redis) -> None:
    names = start(queues, redis_url, 2)
    queues.api.delete(queues.path("email"))
    wait_until(lambda: flagged(server) == names, "the flags", timeout_seconds=90)
    assert queues.api.get_or_none(queues.path("email")) is None
    for name in names:
        let_go(queues, name)
    wait_until(lambda: flagged(server) == [], "the flags to go", timeout_seconds=90)


def test_the_workers_that_a_roll_out_replaces(queues: JobQueues, redis_url: str, server: redis.Redis) -> None:
    names = start(queues, redis_url, 2)
    add_jobs(redis_url, "email", 3)
    for number in range(2):
        queues.change("email", worker={"image": f"registry.invalid/app:{number}", "processor": PROCESSOR})
    # There is no node: no new pod gets ready, unless somebody says so.
    wait_until(lambda: len(queues.pods("email")) > 2, "a new pod", timeout_seconds=90)

    def all_old_are_flagged() -> bool:
        queues.make_ready("email")
        return flagged(server) == names

    wait_until(all_old_are_flagged, "the old pods to be flagged", timeout_seconds=90, interval_seconds=0.5)
    for name in names:
        let_go(queues, name)


PROCESSOR = {"python": {"module": "jobs"}}
