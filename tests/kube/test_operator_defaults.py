"""What manifests say about jobs, in Redis for every client: written, kept, removed, and swept after an absence."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis

from support import operator_process
from support.cluster import Cluster
from support.job_queues import JobQueues, job_queue
from support.operator_process import OperatorProcess
from support.waiting import stays, wait_until

KEY = "bull:email:toril:defaults"


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def own_operator(cluster: Cluster, namespace: str, our_types: None) -> Iterator[OperatorProcess]:
    with operator_process.start(cluster, namespaces=[namespace]) as running:
        yield running


def stored(server: redis.Redis, key: str = KEY) -> dict[str, str]:
    return {str(name): str(value) for name, value in server.hgetall(key).items()}


def wait_stored(server: redis.Redis, name: str, value: str | None) -> None:
    wait_until(lambda: stored(server).get(name) == value, f"{name} to be {value}", timeout_seconds=40)


def test_they_follow_the_manifest(
    operator: OperatorProcess, queues: JobQueues, redis_url: str, server: redis.Redis
) -> None:
    made = queues.create(job_queue("email", redis_url, defaultJobOptions={"attempts": 4}, sizeLimit=1000))
    queues.create(job_queue("plain", redis_url))
    wait_stored(server, "sizeLimit", "1000")
    found = stored(server)
    assert json.loads(found["options"]) == {"attempts": 4}
    assert (found["ownerUid"], found["generation"]) == (made["metadata"]["uid"], "1")
    assert found["ownerScope"] == queues.api.get("/api/v1/namespaces/kube-system")["metadata"]["uid"]
    queues.change("email", sizeLimit=2000)
    wait_stored(server, "sizeLimit", "2000")
    queues.change("email", sizeLimit=None, defaultJobOptions=None)
    wait_until(lambda: stored(server) == {}, "the key to go")
    queues.wait_reason("plain", "Ready", "True/Reconciled")
    assert stored(server, "bull:plain:toril:defaults") == {}, "a queue that says nothing has no such key"


def test_they_go_with_the_job_queue(
    operator: OperatorProcess, queues: JobQueues, redis_url: str, server: redis.Redis
) -> None:
    queues.create(job_queue("email", redis_url, sizeLimit=1000))
    wait_stored(server, "sizeLimit", "1000")
    queues.api.delete(queues.path("email"))
    wait_until(lambda: stored(server) == {}, "the key to go")


def test_another_owners_are_left_alone(
    operator: OperatorProcess, queues: JobQueues, redis_url: str, server: redis.Redis
) -> None:
    others = {"ownerScope": "another cluster", "ownerUid": "u", "generation": "1", "sizeLimit": "7"}
    server.hset(KEY, mapping=others)  # type: ignore[arg-type]
    queues.create(job_queue("email", redis_url, sizeLimit=1000))
    wait_until(lambda: "are another's, and left alone" in operator.log, "the operator to say so")
    assert stored(server) == others


def test_what_is_left_behind_is_swept(
    own_operator: OperatorProcess, queues: JobQueues, redis_url: str, server: redis.Redis
) -> None:
    """Deleted and made anew while no operator runs; the new ones have other uids."""
    for name in ("email", "gone", "kept"):
        queues.create(job_queue(name, redis_url, sizeLimit=1000))
        wait_until(lambda name=name: stored(server, f"bull:{name}:toril:defaults"), f"the key of {name}")  # type: ignore[misc]
    own_operator.kill()
    queues.api.delete(queues.path("email"))
    queues.api.delete(queues.path("gone"))
    foreign = {**stored(server), "ownerScope": "another cluster"}
    server.hset("bull:foreign:toril:defaults", mapping=foreign)  # type: ignore[arg-type]
    queues.create(job_queue("email", redis_url, sizeLimit=3000))
    own_operator.start()
    wait_stored(server, "sizeLimit", "3000")
    wait_until(lambda: stored(server, "bull:gone:toril:defaults") == {}, "the sweep", timeout_seconds=150)
    assert stored(server, "bull:kept:toril:defaults")["sizeLimit"] == "1000"
    assert stored(server, "bull:foreign:toril:defaults") == foreign
    stays(lambda: stored(server).get("sizeLimit") == "3000", "those of the living stay", seconds=1)


def test_a_redis_that_lost_them_gets_them_again(
    own_operator: OperatorProcess, queues: JobQueues, redis_url: str, server: redis.Redis
) -> None:
    queues.create(job_queue("email", redis_url, sizeLimit=1000))
    wait_stored(server, "sizeLimit", "1000")
    server.delete(KEY)
    wait_until(lambda: stored(server), "them to be written anew within a minute", timeout_seconds=120)
