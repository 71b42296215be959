"""What a worker reads from its environment, and how it refuses."""

from __future__ import annotations

import json

import pytest

from toril import errors
from toril.engine.scripts import Limiter
from toril.jobs.retention import KeepPolicy
from toril.worker.settings import WorkerSettings

LEAST = {"TORIL_QUEUE": "email", "TORIL_PROCESSOR": '{"python": {"module": "app.jobs"}}'}


def read(**environ: str) -> WorkerSettings:
    return WorkerSettings.from_environment({**LEAST, **environ})


def test_the_least_gives_bullmqs_defaults() -> None:
    settings = read()
    assert (settings.queue, settings.prefix, settings.concurrency) == ("email", "bull", 1)
    assert settings.processor == {"python": {"module": "app.jobs"}}
    assert (settings.lock_ms, settings.lock_renew_ms, settings.stalled_interval_ms) == (30_000, 15_000, 30_000)
    assert (settings.max_stalled_count, settings.max_started_attempts, settings.limiter) == (1, None, None)
    assert (settings.idle_poll_seconds, settings.max_rate_limit_wait_ms) == (5.0, 30_000)
    assert (settings.drain_seconds, settings.http_port) == (600, 8080)
    assert settings.keep_completed is settings.keep_failed is None
    assert (settings.metrics_minutes, settings.layout) == (0, "6")
    assert " " not in settings.name
    assert settings.redis.endpoint == "localhost:6379/0"


def test_everything_can_be_said() -> None:
    options = {
        "lockDuration": 10_000, "stalledInterval": 5000, "maxStalledCount": 3, "maxStartedAttempts": 9,
        "maximumRateLimitDelay": 1000, "drainDelay": 0.5, "limiter": {"max": 5, "duration": 1000},
        "removeOnFail": {"count": 7}, "concurrency": None, "metrics": {"maxDataPoints": 60},
    }  # fmt: skip
    del options["concurrency"]
    settings = read(
        TORIL_PREFIX="{team}", TORIL_CONCURRENCY="20", TORIL_DRAIN_SECONDS="0", TORIL_HTTP_PORT="0",
        TORIL_POD_NAME="email-0", TORIL_REDIS_URL="redis://redis:6380/2", TORIL_WORKER_OPTIONS=json.dumps(options),
        TORIL_ISOLATION="None", TORIL_PAUSED_LAYOUT="5",
    )  # fmt: skip
    assert (settings.prefix, settings.concurrency, settings.name) == ("{team}", 20, "email-0")
    assert (settings.drain_seconds, settings.http_port, settings.redis.endpoint) == (0, 0, "redis:6380/2")
    assert (settings.lock_ms, settings.lock_renew_ms, settings.stalled_interval_ms) == (10_000, 5000, 5000)
    assert (settings.max_stalled_count, settings.max_started_attempts) == (3, 9)
    assert (settings.max_rate_limit_wait_ms, settings.idle_poll_seconds) == (1000, 0.5)
    assert settings.limiter == Limiter(max=5, duration_ms=1000)
    assert (settings.metrics_minutes, settings.layout) == (60, "5")
    assert (settings.keep_completed, settings.keep_failed) == (None, KeepPolicy(count=7))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TORIL_QUEUE", "", "TORIL_QUEUE is missing"),
        ("TORIL_QUEUE", "a:b", "TORIL_QUEUE: a queue name may not hold a colon"),
        ("TORIL_PROCESSOR", "", "TORIL_PROCESSOR is missing"),
        ("TORIL_PROCESSOR", "{", "TORIL_PROCESSOR is not JSON"),
        ("TORIL_PROCESSOR", "[]", "TORIL_PROCESSOR must be a JSON object"),
        ("TORIL_CONCURRENCY", "0", "TORIL_CONCURRENCY must be between 1 and 10000"),
        ("TORIL_CONCURRENCY", "1.5", "TORIL_CONCURRENCY must be a whole number"),
        ("TORIL_WORKER_OPTIONS", '{"lockDuration":1e999}', "lockDuration must be a whole number"),
        ("TORIL_HTTP_PORT", "65536", "TORIL_HTTP_PORT must be between 0 and 65535"),
        ("TORIL_DRAIN_SECONDS", "-1", "TORIL_DRAIN_SECONDS must be between"),
        ("TORIL_POD_NAME", "a b", "TORIL_POD_NAME may not hold spaces"),
        ("TORIL_ISOLATION", "process", "TORIL_ISOLATION is 'process'; this version knows only None"),
        ("TORIL_WORKER_OPTIONS", '{"lockDuraton": 1}', "TORIL_WORKER_OPTIONS: lockDuraton is unknown; known are"),
        ("TORIL_WORKER_OPTIONS", '{"lockDuration": "1"}', "TORIL_WORKER_OPTIONS: lockDuration must be a whole number"),
        ("TORIL_WORKER_OPTIONS", '{"lockRenewTime": 30000}', "lockRenewTime must be below lockDuration"),
        ("TORIL_WORKER_OPTIONS", '{"drainDelay": 0}', "drainDelay must be seconds"),
        ("TORIL_WORKER_OPTIONS", '{"limiter": {"max": 1}}', "limiter must be {max, duration}"),
        ("TORIL_WORKER_OPTIONS", '{"removeOnFail": "x"}', "removeOnFail: must be true, false, a number"),
        ("TORIL_WORKER_OPTIONS", '{"metrics": {}}', "metrics must be {maxDataPoints}"),
        ("TORIL_WORKER_OPTIONS", '{"metrics": {"maxDataPoints": 0}}', "metrics.maxDataPoints must be between 1 and"),
        ("TORIL_PAUSED_LAYOUT", "v5", "TORIL_PAUSED_LAYOUT must be 5 or 6"),
        ("TORIL_REDIS_URL", "ftp://u:secret@h", "TORIL_REDIS_URL: must begin with"),
        ("TORIL_REDIS_URL", "redis://u:secret@h:port", "TORIL_REDIS_URL: not a Redis URL"),
    ],
)
def test_a_wrong_value_is_named_and_never_shown(name: str, value: str, words: str) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        read(**{name: value})
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "container"),
    [
        ({"TORIL_POD_UID": "uid-1", "TORIL_CONTAINER": "worker"}, "uid-1/worker"),
        ({"TORIL_POD_UID": "uid-1"}, ""),
        ({"TORIL_POD_UID": "", "TORIL_CONTAINER": "worker"}, ""),
        ({}, ""),
    ],
)
def test_a_container_is_known_by_both_of_its_variables(variables: dict[str, str], container: str) -> None:
    assert read(**variables).container == container
