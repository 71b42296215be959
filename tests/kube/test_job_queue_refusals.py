"""What the API server refuses of a JobQueue before the operator sees it: always with the field's path."""

from __future__ import annotations

from typing import Any

import pytest

from support.job_queues import JobQueues, job_queue

REDIS = "redis://redis:6379"
WORKER = {"processor": {"python": {"module": "jobs"}}}
SECRET = {"secretKeyRef": {"name": "s", "key": "k"}}


def refusal(queues: JobQueues, manifest: dict[str, Any], *, name: str = "") -> str:
    """The server's message; the object is not stored."""
    method = "PATCH" if name else "POST"
    kind = "application/merge-patch+json" if name else "application/json"
    query = "?fieldValidation=Strict"
    status, answer = queues.api.call(method, queues.path(name) + query, manifest, kind)
    assert status in (400, 422), answer
    return str(answer["message"])


@pytest.mark.requirement("T76")
@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"scaling": {"minReplicas": 5, "maxReplicas": 2}}, "spec.scaling.minReplicas: Invalid value"),
        ({"scaling": {"maxReplica": 2}}, 'unknown field "spec.scaling.maxReplica"'),
        ({"queueName": "a:b"}, "spec.queueName: Invalid value"),
        ({"redis": {"url": "redis://:secret@redis"}}, "spec.redis.url: Invalid value"),
        ({"redis": {"url": "http://redis"}}, "spec.redis.url: Invalid value"),
        ({"redis": {"url": REDIS, "host": "redis"}}, "exactly one of url, urlFrom and host must be given"),
        ({"redis": {}}, "exactly one of url, urlFrom and host must be given"),
        ({"redis": {"urlFrom": SECRET, "port": 1}}, "port, db and tls.enabled go with host"),
        ({"redis": {"url": "postgres://redis"}}, "spec.redis.url: Invalid value"),
        ({"redis": {"url": "postgres://redis"}}, "names a PostgreSQL, in which BullMQ 6 can keep its queues"),
        (
            {"defaultJobOptions": {"removeOnComplete": 100}},
            "spec.defaultJobOptions.removeOnComplete in body must be of",
        ),
        ({"redis": {"host": "r", "tls": {"caFrom": SECRET}}}, "serverName need tls.enabled"),
        ({"redis": {"url": REDIS, "tls": {"caFrom": SECRET}}}, "need a URL that begins with rediss://"),
        ({"redis": {"urlFrom": SECRET, "tls": {"certFrom": SECRET}}}, "certFrom and keyFrom go together"),
        ({"worker": {}}, "spec.worker.processor: Invalid value"),
        ({"worker": {**WORKER, "concurrency": 0}}, "spec.worker.concurrency: Invalid value"),
        (
            {"worker": {**WORKER, "env": [{"name": "TORIL_QUEUE", "value": "x"}]}},
            "spec.worker.env[0].name: Invalid value",
        ),
        ({"worker": {**WORKER, "bullmq": {"lockRenewTime": 30000}}}, "spec.worker.bullmq.lockRenewTime: Invalid value"),
        ({"replicas": -1}, "spec.replicas: Invalid value"),
        ({"pausedLayout": "7"}, "spec.pausedLayout: Unsupported value"),
        ({"worker": {**WORKER, "bullmq": {"limiter": {"max": 5}}}}, "spec.worker.bullmq.limiter.duration: Required"),
        (
            {"worker": {**WORKER, "bullmq": {"metrics": {"maxDataPoints": 0}}}},
            "bullmq.metrics.maxDataPoints: Invalid",
        ),
        ({"deletionPolicy": "Obliterate"}, "spec.deletionPolicy: Unsupported value"),
    ],
)
def test_a_wrong_field(queues: JobQueues, spec: dict[str, Any], words: str) -> None:
    assert words in refusal(queues, job_queue("wrong", REDIS, **spec))


@pytest.mark.requirement("T76")
def test_a_name_that_is_too_long_for_its_parts(queues: JobQueues) -> None:
    assert "metadata.name must be at most 52 characters" in refusal(queues, job_queue("a" * 53, REDIS))


@pytest.mark.requirement("T76")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"queueName": "other"}, "spec.queueName: Invalid value"),
        ({"prefix": "other"}, "spec.prefix: Invalid value"),
    ],
)
def test_what_cannot_be_changed(queues: JobQueues, change: dict[str, Any], words: str) -> None:
    queues.create(job_queue("email", REDIS))
    assert words in refusal(queues, {"spec": change}, name="email")
