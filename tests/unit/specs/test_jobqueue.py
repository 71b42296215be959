"""A manifest in, a typed spec or an error with the field's path out."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from toril import errors
from toril.engine.scripts import Limiter
from toril.scaling.policy import RateLimit, ScalingMode
from toril.specs.jobqueue import RedisSpec, SecretKey, WorkerMode, parse_job_queue
from toril.specs.worker_environment import build_worker_environment
from toril.worker.settings import WorkerSettings

SMALLEST = yaml.safe_load("""
apiVersion: toril.dev/v1alpha1
kind: JobQueue
metadata: {name: email, namespace: shop}
spec:
  redis: {url: "redis://redis:6379/1"}
  worker:
    processor: {python: {module: app.jobs}}
""")


def manifest(**changes: Any) -> dict[str, Any]:
    """The smallest manifest with fields of `spec` set; a double underscore goes one level down."""
    changed: dict[str, Any] = copy.deepcopy(SMALLEST)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = changed["spec"]
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return changed


def refused(**changes: Any) -> errors.InvalidSpecError:
    with pytest.raises(errors.InvalidSpecError) as caught:
        parse_job_queue(manifest(**changes))
    return caught.value


def test_everything_has_a_default() -> None:
    spec = parse_job_queue(SMALLEST)
    assert (spec.namespace, spec.name, spec.queue_name, spec.prefix) == ("shop", "email", "email", "bull")
    assert spec.redis == RedisSpec(url="redis://redis:6379/1")
    assert (spec.worker.concurrency, spec.worker.drain_seconds, spec.worker.mode) == (1, 600, WorkerMode.MANAGED)
    assert spec.scaling.mode is ScalingMode.AUTO
    assert (spec.scaling.min_replicas, spec.scaling.max_replicas, spec.scaling.jobs_per_replica) == (0, 10, 1)
    assert (spec.scaling.cooldown_ms, spec.scaling.up_window_ms, spec.scaling.down_window_ms) == (60_000, 0, 30_000)
    assert not spec.is_suspended


@pytest.mark.requirement("Z-05")
def test_the_concurrency_is_what_one_worker_should_have() -> None:
    assert parse_job_queue(manifest(worker__concurrency=5)).scaling.jobs_per_replica == 5


CA = {"secretKeyRef": {"name": "redis-tls", "key": "ca.crt"}}


def test_certificates_go_with_a_host_or_a_url() -> None:
    key = {"secretKeyRef": {"name": "redis-tls", "key": "tls.key"}}
    tls = {"caFrom": CA, "certFrom": CA, "keyFrom": key, "serverName": "redis.internal"}
    by_host = {"host": "r", "tls": {"enabled": True, **tls}}
    for redis in (by_host, {"url": "rediss://r?db=1", "tls": tls}, {"urlFrom": CA, "tls": tls}):
        found = parse_job_queue(manifest(redis=redis)).redis
        assert found.tls.secret_keys["ca"] == SecretKey("redis-tls", "ca.crt")
        assert found.tls.secret_keys["key"] == SecretKey("redis-tls", "tls.key")
        assert found.tls.server_name == "redis.internal"
        assert set(found.tls.secret_keys.values()) <= set(found.secret_keys)


@pytest.mark.requirement("Z-30", "C-29", "I-27")
def test_redis_is_said_in_one_of_three_ways() -> None:
    url = manifest(redis={"urlFrom": {"secretKeyRef": {"name": "redis", "key": "REDIS_URL"}}})
    assert parse_job_queue(url).redis.url_from == SecretKey("redis", "REDIS_URL")
    password = {"secretKeyRef": {"name": "redis", "key": "password", "optional": True}}
    host = manifest(redis={"host": "redis", "port": 6380, "db": 1, "tls": {"enabled": True}, "passwordFrom": password})
    redis = parse_job_queue(host).redis
    assert (redis.host, redis.port, redis.db, redis.has_tls) == ("redis", 6380, 1, True)
    assert redis.secret_keys == (SecretKey("redis", "password", is_optional=True),)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"scaling__minReplicas": 5, "scaling__maxReplicas": 2}, "spec.scaling.minReplicas", "maxReplicas"),
        ({"queueName": "a:b"}, "spec.queueName", "colon"),
        ({"redis": {}}, "spec.redis", "exactly one of"),
        ({"redis": {"url": "redis://r", "host": "r"}}, "spec.redis", "exactly one of"),
        ({"redis": {"url": "redis://u:p@r"}}, "spec.redis.url", "credentials"),
        ({"redis": {"url": "http://r"}}, "spec.redis.url", "redis://"),
        ({"redis": {"url": "redis://r", "db": 1}}, "spec.redis.db", "goes with host"),
        ({"redis": {"url": "postgres://r"}}, "spec.redis.url", "Redis only: give redis://host:port/db"),
        ({"redis": {"url": "rediss://r?ssl_cert_reqs=none"}}, "spec.redis.url", "no parameters but db"),
        ({"redis": {"url": "rediss://r", "tls": {"enabled": True}}}, "spec.redis.tls.enabled", "goes with host"),
        ({"redis": {"host": "r", "tls": {"caFrom": CA}}}, "spec.redis.tls.caFrom", "needs tls.enabled"),
        ({"redis": {"host": "r", "tls": {"serverName": "r"}}}, "spec.redis.tls.serverName", "enabled"),
        ({"redis": {"url": "redis://r", "tls": {"caFrom": CA}}}, "spec.redis.tls.caFrom", "rediss://"),
        ({"redis": {"url": "rediss://r", "tls": {"certFrom": CA}}}, "spec.redis.tls.certFrom", "together"),
        ({"redis": {"url": "rediss://r", "tls": {"keyFrom": CA}}}, "spec.redis.tls.keyFrom", "together"),
        ({"redis": {"urlFrom": {}}}, "spec.redis.urlFrom.secretKeyRef.name", "required"),
        ({"worker__processor": None}, "spec.worker.processor", "what the workers run"),
        ({"worker__processor": {"python": {}}}, "spec.worker.processor.python.module", "required"),
        ({"worker__mode": "External"}, "spec.worker.mode", "one of: Managed, None"),
        ({"worker__concurrency": 0}, "spec.worker.concurrency", "or equal to 1"),
        ({"worker__concurrency": "5"}, "spec.worker.concurrency", "of type integer"),
        (
            {"worker__bullmq": {"lockDuration": 1000, "lockRenewTime": 1000}},
            "spec.worker.bullmq.lockRenewTime",
            "below",
        ),
        ({"worker__bullmq": {"limiter": {"max": 5}}}, "spec.worker.bullmq.limiter.duration", "required"),
        ({"worker__bullmq": {"limiter": {"max": 0, "duration": 1}}}, "spec.worker.bullmq.limiter.max", "or equal to 1"),
        ({"globalConcurrency": 0}, "spec.globalConcurrency", "or equal to 1"),
        ({"worker__env": [{"name": "TORIL_QUEUE"}]}, "spec.worker.env[0].name", "operator"),
        ({"defaultJobOptions": {"attemps": 3}}, "spec.defaultJobOptions.attemps", "unknown"),
        ({"defaultJobOptions": {"priority": 2**21}}, "spec.defaultJobOptions.priority", "2097151"),
        ({"suspend": "yes"}, "spec.suspend", "of type boolean"),
        ({"scaling": []}, "spec.scaling", "object"),
        ({"pausedLayout": "7"}, "spec.pausedLayout", "one of: 5, 6"),
        ({"deletionPolicy": "Obliterate"}, "spec.deletionPolicy", "Retain"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], field: str, words: str) -> None:
    problem = refused(**changes)
    assert problem.field == field
    assert words in str(problem)


def test_the_error_about_a_url_does_not_show_it() -> None:
    assert "hunter2" not in str(refused(redis={"url": "redis://user:hunter2@redis"}))


def test_a_name_too_long_for_its_parts_is_refused() -> None:
    long = {**SMALLEST, "metadata": {"name": "x" * 53}}
    with pytest.raises(errors.InvalidSpecError, match=r"metadata\.name: must be at most 52"):
        parse_job_queue(long)


@pytest.mark.requirement("Z-07")
def test_limits_that_scaling_must_know() -> None:
    limiter = {"max": 5, "duration": 60_000}
    parsed = parse_job_queue(manifest(globalConcurrency=3, worker__bullmq={"limiter": limiter}))
    assert (parsed.global_concurrency, parsed.scaling.global_concurrency) == (3, 3)
    assert parsed.scaling.limiter == RateLimit(5, 60_000)
    plain = parse_job_queue(SMALLEST)
    assert (plain.global_concurrency, plain.scaling.global_concurrency, plain.scaling.limiter) == (None, None, None)


def test_null_counts_as_not_given() -> None:
    assert parse_job_queue(manifest(queueName=None, scaling=None, defaultJobOptions=None)) == parse_job_queue(SMALLEST)


@pytest.mark.requirement("Z-17", "Z-18", "Z-19", "Z-20")
def test_the_worker_environment_says_the_same_for_the_same_spec() -> None:
    options = {
        "attempts": 3,
        "backoff": {"type": "exponential", "delay": 5000},
        "removeOnComplete": {"age": 86400, "count": 1000},
        "removeOnFail": {"age": 604800, "count": 5000},
    }
    mixed = build_worker_environment(parse_job_queue(manifest(pausedLayout="5")))
    assert mixed["TORIL_PAUSED_LAYOUT"] == "5"
    shuffled = dict(reversed(options.items()))
    first = build_worker_environment(parse_job_queue(manifest(defaultJobOptions=options, worker__concurrency=5)))
    second = build_worker_environment(parse_job_queue(manifest(defaultJobOptions=shuffled, worker__concurrency=5)))
    assert first == second
    assert first == {
        "TORIL_QUEUE": "email",
        "TORIL_PREFIX": "bull",
        "TORIL_PROCESSOR": '{"python":{"module":"app.jobs"}}',
        "TORIL_CONCURRENCY": "5",
        "TORIL_DRAIN_SECONDS": "600",
        "TORIL_NAMESPACE": "shop",
        "TORIL_JOBQUEUE": "email",
    }


@pytest.mark.requirement("Z-44")
@pytest.mark.parametrize(
    ("queue", "concurrency", "per_minute"),
    [
        pytest.param("video-processing", 2, 5, marks=pytest.mark.requirement("C-03")),
        pytest.param("content-generation", 5, 20, marks=pytest.mark.requirement("C-04")),
        pytest.param("email-sending", 10, 100, marks=pytest.mark.requirement("C-05")),
        ("transcript-generation", 3, 10),
        ("social-posting", 5, 20),
    ],
)
def test_what_a_manifest_says_of_limits_reaches_the_worker(queue: str, concurrency: int, per_minute: int) -> None:
    bullmq = {"limiter": {"max": per_minute, "duration": 60_000}}
    spec = parse_job_queue(manifest(queueName=queue, worker__concurrency=concurrency, worker__bullmq=bullmq))
    settings = WorkerSettings.from_environment(build_worker_environment(spec))
    assert (settings.queue, settings.concurrency, settings.limiter) == (queue, concurrency, Limiter(per_minute, 60_000))
