"""`spec.globalConcurrency` in Redis, beside other clients that set it too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from support.job_queues import JobQueues, add_jobs, job_queue
from support.waiting import stays, wait_until

pytestmark = pytest.mark.usefixtures("operator")
META = "bull:email:meta"


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def wait_concurrency(server: redis.Redis, wanted: str | None) -> None:
    wait_until(lambda: server.hget(META, "concurrency") == wanted, f"meta.concurrency {wanted}")


def events(queues: JobQueues) -> list[str]:
    path = f"/apis/events.k8s.io/v1/namespaces/{queues.namespace}/events"
    return [event["note"] for event in queues.api.items(path) if event["reason"] == "ConcurrencyRestored"]


@pytest.mark.requirement("Z-07")
def test_the_manifest_names_it(queues: JobQueues, redis_url: str, server: redis.Redis) -> None:
    queues.create(job_queue("email", redis_url, globalConcurrency=6))
    wait_concurrency(server, "6")
    wait_until(lambda: queues.status("email").get("globalConcurrency") == 6, "the status to remember it")
    # Each worker runs five at a time: two can use the six, whatever waits.
    add_jobs(redis_url, "email", 100)
    queues.wait_replicas("email", 2)
    stays(lambda: queues.replicas("email") == 2, "no idle workers", seconds=2)
    assert events(queues) == []
    server.hset(META, "concurrency", 50)
    wait_concurrency(server, "6")
    wait_until(lambda: events(queues), "the event")
    assert events(queues) == ["another client had set the queue's concurrency to 50; 6 is back"]
    queues.change("email", globalConcurrency=11)
    wait_concurrency(server, "11")
    queues.wait_replicas("email", 3)
    assert len(events(queues)) == 1, "a change of the manifest is no event"
    queues.change("email", globalConcurrency=None)
    wait_concurrency(server, None)
    wait_until(lambda: "globalConcurrency" not in queues.status("email"), "the status to forget it")


def test_the_manifest_does_not_name_it(queues: JobQueues, redis_url: str, server: redis.Redis) -> None:
    """Another client's number is never touched, but obeyed."""
    server.hset(META, "concurrency", 6)
    queues.create(job_queue("email", redis_url))
    add_jobs(redis_url, "email", 100)
    queues.wait_replicas("email", 2)
    stays(lambda: server.hget(META, "concurrency") == "6", "it is left alone", seconds=3)
    assert "globalConcurrency" not in queues.status("email")


def test_workers_that_a_rate_limit_leaves_idle_are_not_started(queues: JobQueues, redis_url: str) -> None:
    limited = {"limiter": {"max": 12, "duration": 60_000}}
    worker = {"concurrency": 5, "processor": {"python": {"module": "jobs"}}, "bullmq": limited}
    queues.create(job_queue("email", redis_url, worker=worker))
    add_jobs(redis_url, "email", 100)
    queues.wait_replicas("email", 3)
    stays(lambda: queues.replicas("email") == 3, "no idle workers", seconds=3)
